/**
 * The exchange over networks of a known bandwidth: four network namespaces, each a host, behind a bridge, both directions limited by
 * tc's tbf. Beside the time that the bytes take there must be only that of the arithmetic, which is the exchange's through shared memory,
 * and of the hosts' network stacks, which share this machine's cores: both together are the exchange's time without a limit.
 * Needs root and iproute2; leaves nothing behind.
 *
 * usage: node tests/bench/network.mjs [--params 5000000] [--rounds 5] [--gbits 1,10] [-- FLAGS OF tandem bench exchange]
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const BRIDGE = "tandem-bridge";
const HOSTS = [0, 1, 2, 3].map((number) => ({ name: `tandem-host-${number}`, port: `tandem-p${number}`, number }));
const address = (number) => `10.213.7.${number + 1}`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    params: { type: "string", default: "5000000" },
    rounds: { type: "string", default: "5" },
    gbits: { type: "string", default: "1,10" },
  },
});

/** @param {string} line @returns {boolean} whether it was done */
function run(line) {
  const [command, ...args] = line.split(" ");
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function tearDown() {
  for (const { name } of HOSTS) run(`ip netns del ${name}`);
  run(`ip link del ${BRIDGE}`);
}

function setUp() {
  tearDown();
  const lines = [
    `ip link add ${BRIDGE} type bridge`,
    `ip link set ${BRIDGE} up`,
    ...HOSTS.flatMap(({ name, port, number }) => [
      `ip netns add ${name}`,
      `ip link add ${port} type veth peer name eth0 netns ${name}`,
      `ip link set ${port} master ${BRIDGE} up`,
      `ip -n ${name} addr add ${address(number)}/24 dev eth0`,
      `ip -n ${name} link set eth0 up`,
      `ip -n ${name} link set lo up`,
    ]),
  ];
  return lines.every(run);
}

/** @param {string | null} gbits null: no limit */
function limit(gbits) {
  if (gbits === null) {
    for (const { name, port } of HOSTS) {
      run(`tc qdisc del dev ${port} root`);
      run(`tc -n ${name} qdisc del dev eth0 root`);
    }
    return;
  }
  const tbf = `root tbf rate ${gbits}gbit burst 1mb latency 50ms`;
  for (const { name, port } of HOSTS) {
    const isDone = run(`tc qdisc replace dev ${port} ${tbf}`) && run(`tc -n ${name} qdisc replace dev eth0 ${tbf}`);
    if (!isDone) throw new Error(`tc cannot limit ${port} to ${gbits} Gbit/s`);
  }
}

const size = ["--params", values.params, "--rounds", values.rounds, "--json", ...positionals];
const bench = ["bench", "exchange", ...size];
const CASES = [
  // The coordinator's host takes all gradients in, and then gives all weights out.
  { name: "embedded", workers: 3, hosts: HOSTS.slice(1), flags: [], directions: 1 },
  // Each host gives and takes at once.
  { name: "per-worker", workers: 4, hosts: HOSTS, flags: ["--aggregators", "per-worker"], directions: 2 },
];

if (!setUp()) {
  tearDown();
  process.stderr.write("skipped: network namespaces cannot be made here (root and iproute2 are needed)\n");
  process.exit(0);
}
try {
  for (const { name, workers, hosts, flags, directions } of CASES) {
    const same = [...bench, "--workers", `${workers}`, ...flags];
    const arithmetic = lastLine(process.execPath, [PROGRAM, ...same]).medianMs;
    const inHosts = ["--host", address(0), "--namespaces", hosts.map((host) => host.name).join(",")];
    const command = [process.execPath, PROGRAM, ...same, "--no-shared-memory", ...inHosts];
    const measure = () => lastLine("ip", ["netns", "exec", HOSTS[0].name, ...command]);
    limit(null);
    const unlimited = measure().medianMs;
    console.log(
      `${name}, ${workers} workers: ${arithmetic.toFixed(0)} ms through shared memory, ${unlimited.toFixed(0)} ms over TCP without a limit`,
    );
    for (const gbits of values.gbits.split(",")) {
      limit(gbits);
      const { medianMs, busiestBytes } = measure();
      const onTheWay = (8 * busiestBytes) / directions / (Number(gbits) * 1e6);
      const [least, most] = [arithmetic, unlimited].map((ms) => (medianMs / (onTheWay + ms)).toFixed(2));
      console.log(
        `  ${gbits} Gbit/s: ${medianMs.toFixed(0)} ms, of which bytes over bandwidth ${onTheWay.toFixed(0)}: ` +
          `${least} of that and the former together, ${most} of that and the latter`,
      );
    }
  }
} finally {
  tearDown();
}
