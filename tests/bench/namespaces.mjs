/** Network namespaces, each a host, behind a bridge, with links of a known bandwidth in both directions. Needs root and iproute2. */
import { spawnSync } from "node:child_process";

const BRIDGE = "tandem-bridge";
/** Which every kernel lets a namespace have, and which fills a link: BBR, which some machines are set to, begins anew after each pause. */
const CONGESTION_CONTROL = "reno";

/** @param {string} line @returns {boolean} whether it was done */
function run(line) {
  const [command, ...args] = line.split(" ");
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

export class Namespaces {
  /** @param {number} count of hosts, at most 200 */
  constructor(count) {
    this.hosts = Array.from({ length: count }, (_, number) => ({
      name: `tandem-host-${number}`,
      port: `tandem-p${number}`,
      address: `10.213.7.${number + 1}`,
    }));
  }

  /** @returns {boolean} whether this machine lets us; otherwise nothing is left behind */
  setUp() {
    this.tearDown();
    const lines = [
      `ip link add ${BRIDGE} type bridge`,
      `ip link set ${BRIDGE} up`,
      ...this.hosts.flatMap(({ name, port, address }) => [
        `ip netns add ${name}`,
        `ip link add ${port} type veth peer name eth0 netns ${name}`,
        `ip link set ${port} master ${BRIDGE} up`,
        `ip -n ${name} addr add ${address}/24 dev eth0`,
        `ip -n ${name} link set eth0 up`,
        `ip -n ${name} link set lo up`,
        `ip netns exec ${name} sysctl -qw net.ipv4.tcp_congestion_control=${CONGESTION_CONTROL}`,
      ]),
    ];
    const isUp = lines.every(run);
    if (!isUp) this.tearDown();
    return isUp;
  }

  /**
   * @param {string | null} gbits each way; null: no limit
   * @param {string} burst that passes at once after a pause
   * @param {string} latency that what waits may take; more is dropped
   */
  limit(gbits, burst = "1mb", latency = "50ms") {
    if (gbits === null) {
      for (const { name, port } of this.hosts) {
        run(`tc qdisc del dev ${port} root`);
        run(`tc -n ${name} qdisc del dev eth0 root`);
      }
      return;
    }
    const tbf = `root tbf rate ${gbits}gbit burst ${burst} latency ${latency}`;
    for (const { name, port } of this.hosts) {
      const isDone = run(`tc qdisc replace dev ${port} ${tbf}`) && run(`tc -n ${name} qdisc replace dev eth0 ${tbf}`);
      if (!isDone) throw new Error(`tc cannot limit ${port} to ${gbits} Gbit/s`);
    }
  }

  tearDown() {
    for (const { name } of this.hosts) run(`ip netns del ${name}`);
    run(`ip link del ${BRIDGE}`);
  }
}
