import { describe, expect, it } from "vitest";
import { isFit, page } from "../../src/cli/doctor.js";
import {
  checkCpu,
  checkDevices,
  checkDisk,
  checkEngine,
  checkMemory,
  checkNode,
  checkPort,
  checkThreads,
  checkTransport,
  examine,
  type Verdict,
} from "../../src/cli/doctor/checks.js";
import type { Findings } from "../../src/cli/doctor/findings.js";
import { parseCpuInfo, parseCpuLimit, parseMemAvailable, parseMemoryLimit } from "../../src/cli/doctor/proc.js";

const engineReport = { tfjsNode: "4.22.0", libtensorflow: "2.21.0", device: "cpu", computes: true } as const;

const fit: Findings = {
  node: "20.19.0",
  engine: { kind: "report", report: engineReport },
  transport: { kind: "report", report: { zeromq: "4.3.5", curve: true } },
  gpu: { driver: false, models: [], wish: undefined },
  threads: { available: 8, limit: null },
  cpu: { model: "A CPU", flags: new Set(["avx2", "avx512f", "avx512_bf16", "amx_bf16"]), oneDnn: undefined },
  ports: [{ port: 5555, state: "free" }],
  disks: [{ what: "cache", path: "/cache", freeBytes: 50e9 }],
  memory: { totalBytes: 16e9, limitBytes: null, availableBytes: 12e9 },
};

describe("a fit machine", () => {
  it("passes every check and is told no remedies", () => {
    const verdicts = examine(fit);
    expect(verdicts.map(({ status, remedy }) => [status, remedy])).toEqual(verdicts.map(() => ["ok", ""]));
    expect(isFit(verdicts)).toBe(true);
  });

  it("is described in one line each, in columns", () => {
    expect(page(examine(fit))).toBe(
      [
        "ok    Node          20.19.0",
        "ok    engine        tfjs-node 4.22.0 on libtensorflow 2.21.0",
        "ok    devices       CPU (A CPU)",
        "ok    threads       8 cores",
        "ok    CPU           AVX2, AVX-512, AVX-512 bf16, AMX bf16; oneDNN on",
        "ok    ZeroMQ        libzmq 4.3.5 with CURVE",
        "ok    port 5555     free on loopback",
        "ok    disk (cache)  50.0 GB free at /cache",
        "ok    memory        12.0 GB available of 16.0 GB",
        "",
      ].join("\n"),
    );
  });
});

const crashed = { kind: "failed", why: "its process ended with SIGILL" } as const;
const withGpu = { kind: "report", report: { ...engineReport, device: "gpu" } } as const;
const h100 = { driver: true, models: ["H100"], wish: undefined };

it.each<[string, Verdict, Verdict["status"], string, string]>([
  ["an old Node", checkNode("18.19.0"), "FAIL", "18.19.0", "install Node 20.19"],
  ["a Node that nobody tried", checkNode("26.0.0"), "warn", "26.0.0", "use Node 20, 22 or 24"],
  [
    "an engine that crashes",
    checkEngine(crashed),
    "FAIL",
    "does not load: its process ended with SIGILL",
    "npm run build",
  ],
  [
    "an engine that computes nonsense",
    checkEngine({ kind: "report", report: { ...engineReport, computes: false } }),
    "FAIL",
    "wrong matrix product",
    "remove node_modules",
  ],
  [
    "another libtensorflow",
    checkEngine({ kind: "report", report: { ...engineReport, libtensorflow: "2.9.1" } }),
    "warn",
    "2.9.1",
    "npm run build",
  ],
  ["a GPU", checkDevices(withGpu, h100, fit.cpu), "ok", "H100", ""],
  [
    "an idle GPU",
    checkDevices(fit.engine, h100, fit.cpu),
    "warn",
    "CPU only, though the machine has H100",
    "nvidia-smi",
  ],
  ["a GPU left aside on purpose", checkDevices(fit.engine, { ...h100, wish: "cpu" }, fit.cpu), "ok", "CPU", ""],
  [
    "a GPU that is wished for",
    checkDevices(fit.engine, { ...fit.gpu, wish: "gpu" }, fit.cpu),
    "FAIL",
    "sees no GPU",
    "nvidia-smi",
  ],
  ["devices without an engine", checkDevices(crashed, fit.gpu, fit.cpu), "warn", "unknown", "see engine"],
  ["a limited container", checkThreads({ available: 16, limit: 2.5 }), "warn", "limited to 2.5", "--threads 2"],
  ["half a core", checkThreads({ available: 16, limit: 0.5 }), "warn", "limited to 0.5", "at least one whole core"],
  ["oneDNN switched off", checkCpu({ ...fit.cpu, oneDnn: "0" }), "warn", "oneDNN off", "unset TF_ENABLE_ONEDNN_OPTS"],
  ["an old CPU", checkCpu({ ...fit.cpu, flags: new Set() }), "warn", "no vector extensions", "AVX2"],
  ["a ZeroMQ that does not load", checkTransport(crashed), "FAIL", "does not load", "remove node_modules"],
  [
    "a ZeroMQ without CURVE",
    checkTransport({ kind: "report", report: { zeromq: "4.3.5", curve: false } }),
    "FAIL",
    "without CURVE",
    "encryption needs it",
  ],
  ["a port in use", checkPort({ port: 5555, state: "taken" }), "warn", "in use", "--listen"],
  ["a port out of bounds", checkPort({ port: 5555, state: "refused" }), "FAIL", "refuses", "--listen"],
  [
    "a narrow disk",
    checkDisk({ what: "cache", path: "/c", freeBytes: 1e9 }),
    "warn",
    "1.0 GB free at /c",
    "TANDEM_CACHE",
  ],
  [
    "a full disk",
    checkDisk({ what: "working directory", path: "/w", freeBytes: 1e6 }),
    "FAIL",
    "0.0 GB free at /w",
    "--out",
  ],
  ["a lost disk", checkDisk({ what: "cache", path: "/c", freeBytes: null }), "FAIL", "/c cannot be read", "readable"],
  [
    "little memory",
    checkMemory({ totalBytes: 16e9, limitBytes: null, availableBytes: 2e9 }),
    "warn",
    "2.0 GB available",
    "--workers 1",
  ],
  [
    "a container with too little memory",
    checkMemory({ totalBytes: 16e9, limitBytes: 1e9, availableBytes: 12e9 }),
    "FAIL",
    "limited to 1.0 GB",
    "raise the limit",
  ],
])("%s is told as it is, with its remedy", (_, verdict, status, line, remedy) => {
  expect(verdict.status).toBe(status);
  expect(verdict.line).toContain(line);
  expect(verdict.remedy).toContain(remedy);
  expect(verdict.remedy === "").toBe(status === "ok");
});

it("a single FAIL makes the machine unfit; a warning does not", () => {
  expect(isFit([checkNode("20.19.0"), checkNode("26.0.0")])).toBe(true);
  expect(isFit([checkNode("20.19.0"), checkNode("18.0.0")])).toBe(false);
});

describe("what Linux says", () => {
  const files = (contents: Record<string, string>) => (path: string) => contents[path] ?? "";

  it("is read from control groups of version 2 and 1", () => {
    expect(parseCpuLimit(files({ "/sys/fs/cgroup/cpu.max": "250000 100000\n" }))).toBe(2.5);
    expect(parseCpuLimit(files({ "/sys/fs/cgroup/cpu.max": "max 100000\n" }))).toBeNull();
    const v1 = "/sys/fs/cgroup/cpu/cpu.cfs_";
    expect(parseCpuLimit(files({ [`${v1}quota_us`]: "150000\n", [`${v1}period_us`]: "100000\n" }))).toBe(1.5);
    expect(parseCpuLimit(files({ [`${v1}quota_us`]: "-1\n", [`${v1}period_us`]: "100000\n" }))).toBeNull();
    expect(parseCpuLimit(files({}))).toBeNull();
    expect(parseMemoryLimit(files({ "/sys/fs/cgroup/memory.max": "1073741824\n" }))).toBe(1073741824);
    expect(parseMemoryLimit(files({ "/sys/fs/cgroup/memory.max": "max\n" }))).toBeNull();
    const unlimited = { "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n" };
    expect(parseMemoryLimit(files(unlimited))).toBeNull();
  });

  it("is read from /proc", () => {
    const { model, flags } = parseCpuInfo(
      "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: fpu avx2 amx_bf16\n",
    );
    expect(model).toBe("A CPU @ 2 GHz");
    expect([...flags]).toEqual(["fpu", "avx2", "amx_bf16"]);
    expect(parseCpuInfo("")).toEqual({ model: "unknown", flags: new Set([""]) });
    expect(parseMemAvailable("MemTotal:  4 kB\nMemAvailable:    2 kB\n")).toBe(2048);
    expect(parseMemAvailable("")).toBeNull();
  });
});
