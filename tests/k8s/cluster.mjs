/**
 * A Kubernetes cluster of this machine alone, from Debian's etcd, containerd, runc and CNI plugins and from binaries that `build-kubernetes.mjs` has
 * built: a control plane, CoreDNS, and nodes whose pods are real. Needs root. Nothing takes it down: it lives in namespaces of Linux that end with the test
 * (`run.mjs`), and whatever it has started, mounted or configured there goes with them.
 */
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFINITIONS, folder as programs, isBuilt } from "./build-kubernetes.mjs";
import { packImage } from "../../k8s/image/oci.mjs";

const API = "https://127.0.0.1:16443";
const ETCD = "http://127.0.0.1:12379";
const DNS = "10.96.0.10";
/** Programs, and the packages of Debian that have them. */
const CONTROL = ["etcd", "ip", "openssl", "unshare", "setpriv"];
const FOR_CONTROL = "etcd-server iproute2 openssl util-linux";
const NODES = ["containerd", "runc", "ctr", "iptables", "gcc"];
const FOR_NODES = "containerd runc containernetworking-plugins iptables gcc";
const CNI = "/usr/lib/cni";
/** How long a part may take to come up, in ms. */
const PATIENCE_MS = 60_000;

/** @param {boolean} hasNodes @returns {string | null} why this machine cannot run a cluster, or an API server without nodes; null: it can */
export function obstacle(hasNodes) {
  if (process.getuid?.() !== 0) return "containers need root here";
  const missing = (hasNodes ? [...CONTROL, ...NODES] : CONTROL).filter((name) => !hasProgram(name));
  if (missing.length > 0 || (hasNodes && !existsSync(join(CNI, "bridge")))) return `apt-get install ${hasNodes ? `${FOR_CONTROL} ${FOR_NODES}` : FOR_CONTROL}`; // prettier-ignore
  if (isBuilt(hasNodes)) return null;
  return `node tests/k8s/build-kubernetes.mjs${hasNodes ? "" : " --api"} builds Kubernetes' programs first (minutes)`;
}

/** @param {string} name */
function hasProgram(name) {
  try {
    execFileSync("which", [name], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** @param {() => boolean | Promise<boolean>} condition @param {string} what */
export async function until(condition, what, patienceMs = PATIENCE_MS) {
  for (const start = performance.now(); performance.now() - start < patienceMs; await sleep(250))
    if (await condition()) return;
  throw new Error(`timed out waiting for ${what}`);
}

export class Cluster {
  /** of the nodes' containerds
   * @type {string[]} */
  #sockets = [];
  #binaries = programs;
  #kubeconfig;

  /** @param {string} folder for all that it keeps */
  constructor(folder) {
    this.folder = folder;
    this.#kubeconfig = join(folder, "kubeconfig");
  }

  /** @param {string} folder @param {readonly string[]} nodes their names; none: an API server alone */
  static async start(folder, nodes) {
    const cluster = new Cluster(folder);
    await cluster.#apiServer();
    if (nodes.length === 0) return cluster;
    cluster.#controllers();
    await cluster.#network();
    // Each has containers of its own: a kubelet removes those that it does not know.
    for (const [index, name] of nodes.entries()) {
      await cluster.#containers(name);
      await cluster.#node(name, index);
    }
    await cluster.#dns();
    return cluster;
  }

  /** @param {readonly string[]} args @param {string} [input] @returns {string} what kubectl says */
  kubectl(args, input) {
    return this.#ask("kubectl", ["--kubeconfig", this.#kubeconfig, ...args], input);
  }

  /** @param {readonly string[]} args @param {string} manifests @returns {string} what kubeconform says */
  conform(args, manifests) {
    return this.#ask("kubeconform", args, manifests);
  }

  /** @param {string} program @param {readonly string[]} args @param {string | undefined} input */
  #ask(program, args, input) {
    const options = {
      input,
      encoding: /** @type {const} */ ("utf8"),
      stdio: /** @type {const} */ (["pipe", "pipe", "pipe"]),
      maxBuffer: 2 ** 26,
    };
    return execFileSync(join(this.#binaries, program), args, options);
  }

  /** @param {string} archive OCI: every node gets it */
  load(archive) {
    for (const socket of this.#sockets)
      execFileSync("ctr", ["-a", socket, "-n", "k8s.io", "images", "import", "--snapshotter", "native", archive]);
  }

  /** @param {string} name @param {string} program @param {readonly string[]} args */
  #run(name, program, args) {
    mkdirSync(join(this.folder, "logs"), { recursive: true });
    const log = openSync(join(this.folder, "logs", `${name}.log`), "a");
    spawn(program, args, { stdio: ["ignore", log, log] }).unref();
  }

  /** @param {string} name @param {readonly string[]} args */
  #kube(name, args) {
    this.#run(name, join(this.#binaries, name), args);
  }

  async #apiServer() {
    const { folder } = this;
    const token = randomBytes(16).toString("hex");
    execFileSync("openssl", ["genrsa", "-out", join(folder, "sa.key"), "2048"], { stdio: "ignore" });
    writeFileSync(join(folder, "tokens.csv"), `${token},admin,admin,system:masters\n`);
    writeFileSync(
      this.#kubeconfig,
      JSON.stringify({
        ...{ apiVersion: "v1", kind: "Config", "current-context": "here" },
        clusters: [{ name: "here", cluster: { server: API, "insecure-skip-tls-verify": true } }],
        users: [{ name: "admin", user: { token } }],
        contexts: [{ name: "here", context: { cluster: "here", user: "admin" } }],
      }),
    );
    const peer = "http://127.0.0.1:12380";
    this.#run("etcd", "etcd", [
      ...["--data-dir", join(folder, "etcd"), "--unsafe-no-fsync", "--listen-client-urls", ETCD],
      ...["--advertise-client-urls", ETCD, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `default=${peer}`],
    ]);
    const key = join(folder, "sa.key");
    this.#kube("kube-apiserver", [
      ...[
        `--etcd-servers=${ETCD}`,
        `--cert-dir=${join(folder, "pki")}`,
        "--secure-port=16443",
        `--advertise-address=${ownAddress()}`,
      ],
      ...[
        "--service-cluster-ip-range=10.96.0.0/16",
        `--token-auth-file=${join(folder, "tokens.csv")}`,
        "--authorization-mode=Node,RBAC",
      ],
      ...[
        `--service-account-key-file=${key}`,
        `--service-account-signing-key-file=${key}`,
        "--service-account-issuer=https://kubernetes.default.svc",
      ],
      ...["--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true"],
    ]);
    await until(() => this.#answers(["get", "--raw", "/readyz"]), "the API server");
  }

  #controllers() {
    const { folder } = this;
    const key = join(folder, "sa.key");
    this.#kube("kube-controller-manager", [
      ...[
        `--kubeconfig=${this.#kubeconfig}`,
        `--service-account-private-key-file=${key}`,
        "--use-service-account-credentials",
      ],
      ...[`--root-ca-file=${join(folder, "pki/apiserver.crt")}`, "--bind-address=127.0.0.1", "--leader-elect=false"],
      // A node that is gone is noticed within seconds.
      ...["--node-monitor-period=2s", "--node-monitor-grace-period=10s"],
    ]);
    this.#kube("kube-scheduler", [
      `--kubeconfig=${this.#kubeconfig}`,
      "--leader-elect=false",
      "--bind-address=127.0.0.1",
    ]);
    this.#kube("kube-proxy", [
      `--kubeconfig=${this.#kubeconfig}`,
      "--cluster-cidr=10.244.0.0/16",
      "--conntrack-max-per-core=0",
    ]);
  }

  /** @param {readonly string[]} args */
  #answers(args) {
    try {
      this.kubectl(args);
      return true;
    } catch {
      return false;
    }
  }

  async #network() {
    const { folder } = this;
    const network = join(folder, "cni");
    mkdirSync(network);
    const ranges = [[{ subnet: "10.244.0.0/16" }]];
    const bridge = { type: "bridge", bridge: "tandem0", isGateway: true, ipMasq: true, hairpinMode: true };
    const ipam = { type: "host-local", dataDir: join(folder, "addresses"), ranges, routes: [{ dst: "0.0.0.0/0" }] };
    writeFileSync(
      join(network, "10-pods.conflist"),
      JSON.stringify({ cniVersion: "1.0.0", name: "pods", plugins: [{ ...bridge, ipam }] }),
    );
    const source = join(folder, "pause.c");
    writeFileSync(source, "#include <signal.h>\n#include <unistd.h>\nstatic void over(int s) { _exit(0); }\nint main() { signal(SIGTERM, over); for (;;) pause(); }\n"); // prettier-ignore
    const root = join(folder, "pause");
    mkdirSync(root);
    execFileSync("gcc", ["-static", "-O1", "-o", join(root, "pause"), source]);
    await packProgram(root, "pause", join(folder, "pause.tar"));
  }

  /** @param {string} name of the node */
  async #containers(name) {
    const { folder } = this;
    const place = join(folder, `containerd-${name}`);
    mkdirSync(place);
    const socket = join(place, "containerd.sock");
    const config = `
version = 2
root = "${place}/root"
state = "${place}/state"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "tandem.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${CNI}"
    conf_dir = "${folder}/cni"
`;
    writeFileSync(join(place, "config.toml"), config);
    this.#run(`containerd-${name}`, "containerd", ["-c", join(place, "config.toml")]);
    await until(() => existsSync(socket), "containerd");
    this.#sockets.push(socket);
    this.load(join(folder, "pause.tar"));
  }

  /** @param {string} name @param {number} index */
  async #node(name, index) {
    const { folder } = this;
    const config = join(folder, `${name}.json`);
    writeFileSync(
      config,
      JSON.stringify({
        ...{ apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration", failCgroupV1: false },
        ...{ localStorageCapacityIsolation: false, enforceNodeAllocatable: ["none"], cgroupDriver: "cgroupfs" },
        ...{
          cgroupsPerQOS: false,
          failSwapOn: false,
          containerRuntimeEndpoint: `unix://${join(folder, `containerd-${name}`, "containerd.sock")}`,
        },
        podLogsDir: join(folder, `logs-${name}`),
        authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
        authorization: { mode: "AlwaysAllow" },
        ...{
          clusterDNS: [DNS],
          clusterDomain: "cluster.local",
          port: 10250 + 10 * index,
          healthzPort: 10248 + 10 * index,
        },
        evictionHard: { "memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%" },
      }),
    );
    // Each removes the logs of pods that it does not know.
    const place = [`--root-dir=${join(folder, name)}`, `--hostname-override=${name}`, `--node-ip=${ownAddress()}`];
    this.#kube("kubelet", [`--kubeconfig=${this.#kubeconfig}`, `--config=${config}`, ...place]);
    const isReady = () => this.#answers(["wait", "--for=condition=Ready", `node/${name}`, "--timeout=1s"]);
    await until(isReady, `node ${name}`);
  }

  /** Makes the kinds of JobSet and of Prometheus' operator known. */
  define() {
    for (const name of DEFINITIONS) this.kubectl(["apply", "--server-side", "-f", join(this.#binaries, name)]);
    const known = ["wait", "--for=condition=Established", "--timeout=30s", "customresourcedefinition", "--all"];
    this.kubectl(known);
  }

  /** JobSet's controller. */
  async extend() {
    await this.#loadProgram("jobset", "65532");
    this.kubectl(["apply", "--server-side", "-f", join(this.#binaries, "jobset.yaml")]);
    const rollout = [
      "-n",
      "jobset-system",
      "rollout",
      "status",
      "deployment/jobset-controller-manager",
      "--timeout=1s",
    ];
    await until(() => this.#answers(rollout), "JobSet's controller");
  }

  /** @param {string} name of a program that the cache has, and of its image @param {string} user */
  async #loadProgram(name, user = "0") {
    const root = join(this.folder, name);
    mkdirSync(root);
    execFileSync("cp", [join(this.#binaries, name), root]);
    const archive = join(this.folder, `${name}.tar`);
    await packProgram(root, name, archive, user);
    this.load(archive);
  }

  async #dns() {
    await this.#loadProgram("coredns");
    this.kubectl(["apply", "-f", "-"], readFileSync(new URL("coredns.yaml", import.meta.url), "utf8"));
    const isUp = () => this.#answers(["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=1s"]);
    await until(isUp, "CoreDNS");
  }
}

/** An image of one program that stands alone. @param {string} root @param {string} name @param {string} out @param {string} user */
function packProgram(root, name, out, user = "0") {
  const config = { Entrypoint: [`/${name}`], User: user };
  return packImage({ root, layers: [["."]], name: `tandem.test/${name}:1`, config }, out);
}

/** The first address that is not of this machine alone. */
function ownAddress() {
  const addresses = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  const address = addresses.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  if (address === undefined) throw new Error("this machine has no address beside loopback");
  return address;
}
