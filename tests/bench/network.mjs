/**
 * The exchange over networks of a known bandwidth: four network namespaces, each a host, behind a bridge, both directions limited by
 * tc's tbf. Beside the time that the bytes take there must be only that of the arithmetic, which is the exchange's through shared memory,
 * and of the hosts' network stacks, which share this machine's cores: both together are the exchange's time without a limit.
 * Needs root and iproute2; leaves nothing behind.
 *
 * usage: node tests/bench/network.mjs [--params 5000000] [--rounds 5] [--gbits 1,10] [-- FLAGS OF tandem bench exchange]
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";
import { Namespaces } from "./namespaces.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const namespaces = new Namespaces(4);
const { hosts: HOSTS } = namespaces;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    params: { type: "string", default: "5000000" },
    rounds: { type: "string", default: "5" },
    gbits: { type: "string", default: "1,10" },
  },
});

const size = ["--params", values.params, "--rounds", values.rounds, "--json", ...positionals];
const bench = ["bench", "exchange", ...size];
const CASES = [
  // The coordinator's host takes all gradients in, and then gives all weights out.
  { name: "embedded", workers: 3, hosts: HOSTS.slice(1), flags: [], directions: 1 },
  // Each host gives and takes at once.
  { name: "per-worker", workers: 4, hosts: HOSTS, flags: ["--aggregators", "per-worker"], directions: 2 },
];

if (!namespaces.setUp()) {
  process.stderr.write("skipped: network namespaces cannot be made here (root and iproute2 are needed)\n");
  process.exit(0);
}
try {
  for (const { name, workers, hosts, flags, directions } of CASES) {
    const same = [...bench, "--workers", `${workers}`, ...flags];
    const arithmetic = lastLine(process.execPath, [PROGRAM, ...same]).medianMs;
    const inHosts = ["--host", HOSTS[0].address, "--namespaces", hosts.map((host) => host.name).join(",")];
    const command = [process.execPath, PROGRAM, ...same, "--no-shared-memory", ...inHosts];
    const measure = () => lastLine("ip", ["netns", "exec", HOSTS[0].name, ...command]);
    namespaces.limit(null);
    const unlimited = measure().medianMs;
    console.log(
      `${name}, ${workers} workers: ${arithmetic.toFixed(0)} ms through shared memory, ${unlimited.toFixed(0)} ms over TCP without a limit`,
    );
    for (const gbits of values.gbits.split(",")) {
      namespaces.limit(gbits);
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
  namespaces.tearDown();
}
