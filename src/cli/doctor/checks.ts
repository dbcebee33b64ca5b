/** The judgements of `tandem doctor`: what was found → a status, a line, and what to do about it. */
import type { DiskState, Findings, PortState } from "./findings.js";

export type Status = "ok" | "warn" | "FAIL";

export interface Verdict {
  readonly name: string;
  readonly status: Status;
  readonly line: string;
  /** Empty where nothing is wrong. */
  readonly remedy: string;
}

/** Oldest Node: major, minor; as in scripts/setup/toolchain.mjs. */
const OLDEST_NODE = [20, 19] as const;
/** The newest major that set-up, the engine and ZeroMQ were tried on. */
const NEWEST_TRIED_NODE = 24;
/** The libtensorflow that set-up installs. */
const LIBTENSORFLOW = "2.21.0";
/** A checkpoint of ResNet-50 with its queue and optimizer state is near 0.6 GB, and a few are kept. */
const RUN_DISK_BYTES = 3e9;
/** Less than this cannot hold one checkpoint. */
const LEAST_DISK_BYTES = 0.2e9;
/** The coordinator and one worker of the quickstart. */
const LEAST_MEMORY_BYTES = 1.5e9;
const QUICKSTART_MEMORY_BYTES = 4e9;

const REBUILD = "run npm run build";
const REINSTALL = "remove node_modules, then run npm run build";

const ok = (name: string, line: string): Verdict => ({ name, status: "ok", line, remedy: "" });
const warn = (name: string, line: string, remedy: string): Verdict => ({ name, status: "warn", line, remedy });
const fail = (name: string, line: string, remedy: string): Verdict => ({ name, status: "FAIL", line, remedy });

export function checkNode(version: string): Verdict {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    return fail("Node", version, `install Node ${OLDEST_NODE.join(".")} or newer from https://nodejs.org/en/download`);
  }
  if (major > NEWEST_TRIED_NODE) {
    return warn("Node", version, `untried: where something fails, use Node 20, 22 or ${String(NEWEST_TRIED_NODE)}`);
  }
  return ok("Node", version);
}

export function checkEngine(engine: Findings["engine"]): Verdict {
  if (engine.kind === "failed") return fail("engine", `does not load: ${engine.why}`, REBUILD);
  const { tfjsNode, libtensorflow, computes } = engine.report;
  const line = `tfjs-node ${tfjsNode} on libtensorflow ${libtensorflow}`;
  if (!computes) return fail("engine", `${line} computes a wrong matrix product`, REINSTALL);
  if (libtensorflow !== LIBTENSORFLOW) {
    return warn("engine", line, `Tandem is tested with libtensorflow ${LIBTENSORFLOW}: ${REBUILD}`);
  }
  return ok("engine", line);
}

export function checkDevices(engine: Findings["engine"], gpu: Findings["gpu"], cpu: Findings["cpu"]): Verdict {
  if (engine.kind === "failed") return warn("devices", "unknown, as the engine does not load", "see engine");
  const models = gpu.models.join(", ") || "a GPU";
  if (engine.report.device === "gpu") return ok("devices", models);
  if (gpu.wish === "gpu") {
    return fail("devices", `TANDEM_DEVICE=gpu, but the engine sees no GPU`, `check nvidia-smi, then ${REBUILD}`);
  }
  if (gpu.driver && gpu.wish !== "cpu") {
    return warn(
      "devices",
      `CPU only, though the machine has ${models}`,
      `check nvidia-smi, then ${REBUILD} (it fetches the CUDA build)`,
    );
  }
  return ok("devices", `CPU (${cpu.model})`);
}

export function checkThreads({ available, limit }: Findings["threads"]): Verdict {
  const usable = limit === null ? available : Math.min(available, limit);
  const line = `${String(available)} cores${limit === null ? "" : `, limited to ${String(limit)} by the control group`}`;
  if (usable < 1) return warn("threads", line, "give the container at least one whole core");
  if (usable < available) {
    return warn(
      "threads",
      line,
      `start workers with --threads ${String(Math.floor(usable))}: more only wait for each other`,
    );
  }
  return ok("threads", line);
}

export function checkCpu({ flags, oneDnn }: Findings["cpu"]): Verdict {
  const features = [
    ["avx2", "AVX2"],
    ["avx512f", "AVX-512"],
    ["avx512_bf16", "AVX-512 bf16"],
    ["amx_bf16", "AMX bf16"],
  ].flatMap(([flag = "", name = ""]) => (flags.has(flag) ? [name] : []));
  const onednn = oneDnn === "0" || oneDnn?.toLowerCase() === "false" ? "off" : "on";
  const line = `${features.join(", ") || "no vector extensions"}; oneDNN ${onednn}`;
  if (onednn === "off")
    return warn("CPU", line, "unset TF_ENABLE_ONEDNN_OPTS: without oneDNN training is about 4 times slower");
  if (!flags.has("avx2")) return warn("CPU", line, "training works but is slow: use a CPU with AVX2, or a GPU");
  return ok("CPU", line);
}

export function checkTransport(transport: Findings["transport"]): Verdict {
  if (transport.kind === "failed") return fail("ZeroMQ", `does not load: ${transport.why}`, REINSTALL);
  const { zeromq, curve } = transport.report;
  if (!curve) return fail("ZeroMQ", `libzmq ${zeromq} without CURVE`, `encryption needs it: ${REINSTALL}`);
  return ok("ZeroMQ", `libzmq ${zeromq} with CURVE`);
}

export function checkPort({ port, state }: PortState): Verdict {
  const name = `port ${String(port)}`;
  switch (state) {
    case "free":
      return ok(name, "free on loopback");
    case "taken":
      return warn(
        name,
        "in use",
        `choose another with --listen, or find its owner: ss -ltnp 'sport = :${String(port)}'`,
      );
    case "refused":
      return fail(name, "the system refuses to listen on it", "choose another with --listen, or lift the restriction");
  }
}

export function checkDisk({ what, path, freeBytes }: DiskState): Verdict {
  const name = `disk (${what})`;
  if (freeBytes === null) return fail(name, `${path} cannot be read`, "make the directory readable and writable");
  const line = `${gigabytes(freeBytes)} free at ${path}`;
  const where =
    what === "cache" ? "set TANDEM_CACHE to a directory on another disk" : "write runs elsewhere with --out";
  if (freeBytes < LEAST_DISK_BYTES) return fail(name, line, `make room, or ${where}`);
  if (freeBytes < RUN_DISK_BYTES) return warn(name, line, `under ${gigabytes(RUN_DISK_BYTES)}: make room, or ${where}`);
  return ok(name, line);
}

export function checkMemory({ totalBytes, limitBytes, availableBytes }: Findings["memory"]): Verdict {
  const bound = limitBytes === null ? totalBytes : Math.min(totalBytes, limitBytes);
  const limit = bound < totalBytes ? `, limited to ${gigabytes(bound)} by the control group` : "";
  const line = `${gigabytes(availableBytes)} available of ${gigabytes(totalBytes)}${limit}`;
  const usable = Math.min(availableBytes, bound);
  if (usable < LEAST_MEMORY_BYTES) return fail("memory", line, "a worker needs 1.5 GB: free some, or raise the limit");
  if (usable < QUICKSTART_MEMORY_BYTES)
    return warn("memory", line, "enough for one small worker: use --workers 1 and small batches");
  return ok("memory", line);
}

/** Every check, in the order in which they are printed. */
export function examine(found: Findings): readonly Verdict[] {
  return [
    checkNode(found.node),
    checkEngine(found.engine),
    checkDevices(found.engine, found.gpu, found.cpu),
    checkThreads(found.threads),
    checkCpu(found.cpu),
    checkTransport(found.transport),
    ...found.ports.map(checkPort),
    ...found.disks.map(checkDisk),
    checkMemory(found.memory),
  ];
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
