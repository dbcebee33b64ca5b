/** Looks at this machine for `tandem doctor`. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { availableParallelism, freemem, homedir, totalmem } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { EngineReport } from "../../engine/probe.js";
import type { TransportReport } from "../../transport/probe.js";
import { parseCpuLimit, parseCpuInfo, parseMemAvailable, parseMemoryLimit } from "./proc.js";
import type { DiskState, Findings, PortState, Probed } from "./findings.js";

/** A coordinator's default port, and the aggregator's beside it. */
const PORTS = [5555, 5556];
/** Loading libtensorflow takes about 1 s; a cold disk or a GPU's first start take longer. */
const PROBE_LIMIT_MS = 60_000;

export async function gather(): Promise<Findings> {
  const [engine, transport, models, ports, disks] = await Promise.all([
    probe<EngineReport>("../../engine/probe.js"),
    probe<TransportReport>("../../transport/probe.js"),
    gpuModels(),
    Promise.all(PORTS.map(tryPort)),
    Promise.all([disk("working directory", process.cwd()), disk("cache", cacheFolder())]),
  ]);
  const cpuInfo = parseCpuInfo(read("/proc/cpuinfo"));
  return {
    node: process.versions.node,
    engine,
    transport,
    gpu: { driver: hasDriver(), models, wish: process.env["TANDEM_DEVICE"] },
    threads: { available: availableParallelism(), limit: parseCpuLimit(read) },
    cpu: { ...cpuInfo, oneDnn: process.env["TF_ENABLE_ONEDNN_OPTS"] },
    ports,
    disks,
    memory: {
      totalBytes: totalmem(),
      limitBytes: parseMemoryLimit(read),
      availableBytes: parseMemAvailable(read("/proc/meminfo")) ?? freemem(),
    },
  };
}

/** Runs a probe as a process of its own: whatever happens to it becomes a finding. */
function probe<Report>(path: string): Promise<Probed<Report>> {
  const file = fileURLToPath(new URL(path, import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [file], { timeout: PROBE_LIMIT_MS }, (error, stdout, stderr) => {
      if (error === null) {
        resolve({ kind: "report", report: JSON.parse(stdout) as Report });
      } else {
        const end = error.signal ?? `exit code ${String(error.code)}`;
        resolve({ kind: "failed", why: reason(stderr) ?? `its process ended with ${end}` });
      }
    });
  });
}

/** Of what a failed process printed, the line that says why. */
function reason(stderr: string): string | undefined {
  const lines = stderr.split("\n").filter((line) => line.trim() !== "");
  return lines.find((line) => /^\S*Error\b.*:/.test(line)) ?? lines.at(-1);
}

function tryPort(port: number): Promise<PortState> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      resolve({ port, state: error.code === "EADDRINUSE" ? "taken" : "refused" });
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => resolve({ port, state: "free" }));
    });
  });
}

async function disk(what: DiskState["what"], path: string): Promise<DiskState> {
  // A cache that is not there yet lies on its nearest parent's disk.
  const nearest = existsSync(path) || dirname(path) === path ? path : dirname(path);
  if (nearest !== path) return { ...(await disk(what, nearest)), path };
  try {
    const { bavail, bsize } = await statfs(path);
    return { what, path, freeBytes: bavail * bsize };
  } catch {
    return { what, path, freeBytes: null };
  }
}

/** As scripts/setup/libtensorflow.mjs has it. */
function cacheFolder(): string {
  const { TANDEM_CACHE, XDG_CACHE_HOME } = process.env;
  return nonEmpty(TANDEM_CACHE) ?? join(nonEmpty(XDG_CACHE_HOME) ?? join(homedir(), ".cache"), "tandem");
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function hasDriver(): boolean {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return existsSync("/proc/driver/nvidia/version") || folders.some((folder) => existsSync(join(folder, "nvidia-smi")));
}

function gpuModels(): Promise<readonly string[]> {
  return new Promise((resolve) => {
    execFile(
      "nvidia-smi",
      ["--query-gpu=name", "--format=csv,noheader"],
      { timeout: PROBE_LIMIT_MS },
      (error, stdout) => {
        resolve(error === null ? stdout.split("\n").filter((line) => line !== "") : []);
      },
    );
  });
}

/** Empty where there is no such file: these files differ from kernel to kernel. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
