/** Several devices of one machine as one worker: the digests of a single one, and one line where a device's process is lost. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import {
  checkpointOf,
  eventsOf,
  IS_FULL,
  kill,
  ownProcesses,
  SMALL_RUN,
  start,
  stepsOf,
  tandem,
  temporaryFolder,
} from "./tandem.js";

const folder = temporaryFolder();

const runOf = (ranks: number) =>
  SMALL_RUN.map((flag, index) => (SMALL_RUN[index - 1] === "--world-size" ? String(ranks) : flag));
/** Five ranks: on two devices each has two sums, of which one does not lie in memory. */
const RANKS = runOf(5);

async function digests(name: string, flags: readonly string[]): Promise<unknown> {
  const out = join(folder, name);
  const { code, stderr } = await tandem(["train", ...RANKS, ...flags, "--out", out]);
  expect(code, stderr).toBe(0);
  return (await checkpointOf(out)).sha256;
}

/** Each with how it is spread. */
const RUNS: readonly (readonly [name: string, run: readonly string[], spread: readonly string[]])[] = [
  [
    "MoCo v2 with gradients in bf16, streamed samples and an evaluation",
    ["--precision=bf16", "--set=parallel.gradients=bf16", "--steps=4", "--set=evaluation.everyEpochs=1"],
    ["--workers=1", "--devices=cpu,cpu", "--data-delivery=stream"],
  ],
  [
    "SimCLR whose ranks stand still, over TCP, with an aggregator beside each of two workers",
    ["--method=simclr", "--set=engine.heldRanks=4", "--steps=4"],
    ["--workers=2", "--devices=cpu,cpu", "--aggregators=per-worker", "--no-shared-memory"],
  ],
  ...(IS_FULL
    ? ([
        [
          "batch norm of the global batch",
          ["--set=model.syncBatchNorm=true", "--set=moco.shuffle=none", "--steps=4"],
          ["--workers=1", "--devices=cpu,cpu,cpu"],
        ],
        ["the plain run", ["--steps=12"], ["--workers=2", "--devices=cpu,cpu,cpu"]],
      ] as const)
    : []),
];

describe("--devices", { timeout: 120_000 }, () => {
  it.each(RUNS)("leaves the digests of one device: %s", async (name, run, spread) => {
    const alone = await digests(`${name} alone`, [...run, "--workers=1"]);
    expect(await digests(name, [...run, ...spread])).toEqual(alone);
  });

  it("starts the worker again where the process of a device is killed, with one line, and the run loses nothing", async () => {
    const flags = ["--steps", "20", "--workers", "1"];
    const calm = await digests("calm", flags);
    const out = join(folder, "killed");
    const run = start(["train", ...RANKS, ...flags, "--devices", "cpu,cpu", "--out", out]);
    const steps = () => stepsOf(out);
    await vi.waitUntil(() => steps() > 5, { timeout: 40_000 });
    const [worker] = ownProcesses(run.process.pid, "worker");
    const devices = ownProcesses(worker);
    expect(devices).toHaveLength(2);
    kill([devices[1]]);
    const { code, stderr } = await run.ended;
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(
      "worker-1: tandem: the process that computes on cpu (2 of 2) has ended (SIGKILL): was its memory exhausted?",
    );
    expect(stderr).toContain("worker-1: its process has ended with 1; it is started again");
    expect(stderr).not.toContain("bug");
    expect((await checkpointOf(out)).sha256).toEqual(calm);
    // Nobody is left behind by a worker that ended in haste.
    for (const device of devices) expect(() => readFileSync(`/proc/${String(device)}/cmdline`)).toThrow();
  });

  it("loses nothing where the coordinator dies before a device has seen its last weights", async () => {
    const run = [
      ...runOf(1),
      "--steps",
      "300",
      "--set",
      "membership.minWorkers=1",
      "--set",
      "checkpoint.everySteps=20",
    ];
    const [out, calm] = [join(folder, "blind"), join(folder, "seeing")];
    const undisturbed = await tandem(["train", ...run, "--workers=1", "--out", calm]);
    expect(undisturbed.code, undisturbed.stderr).toBe(0);
    const coordinator = start(["coordinator", ...run, "--listen", "tcp://127.0.0.1:*", "--out", out]);
    await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
    const connect = /tcp:\/\/127\.0\.0\.1:\d+/.exec(coordinator.stderr())?.[0] ?? "";
    const worker = start(["worker", "--connect", connect, "--devices", "cpu,cpu"]);
    const steps = () => stepsOf(out);
    await vi.waitUntil(() => steps() > 25, { timeout: 40_000 });
    // It has no rank: what it is asked next is to take weights, which are the coordinator's memory.
    const [, idle] = ownProcesses(worker.process.pid);
    process.kill(idle, "SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    kill([coordinator.process.pid ?? 0]);
    await coordinator.ended;
    const again = start(["coordinator", "--resume", "--listen", connect, "--out", out]);
    await vi.waitUntil(() => worker.stderr().split("welcome to").length === 3, { timeout: 20_000 });
    process.kill(idle, "SIGCONT");
    const { code, stderr } = await again.ended;
    expect(code, stderr).toBe(0);
    const served = await worker.ended;
    expect([served.code, served.stderr.includes("bug")], served.stderr).toEqual([0, false]);
    expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
  });

  it("names its devices in the line that takes a stopped run up again, and is one worker by itself", async () => {
    const out = join(folder, "again");
    const flags = ["--steps", "6", "--stop-after", "2", "--devices", "cpu,cpu"];
    const { code, stdout, stderr } = await tandem(["train", ...RANKS, ...flags, "--out", out]);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("worker-1 has joined with 2 devices (1 here)");
    expect(stdout).toContain(`npx tandem train --resume --out ${out} --devices cpu,cpu\n`);
  });

  it("leaves no process behind where its worker is killed", async () => {
    const run = start([
      "train",
      ...SMALL_RUN,
      "--steps=100000",
      "--workers=1",
      "--devices=cpu,cpu",
      "--max-restarts=0",
      "--out",
      join(folder, "orphans"),
    ]);
    await vi.waitUntil(() => eventsOf(join(folder, "orphans")).some(({ kind }) => kind === "step"), {
      timeout: 40_000,
    });
    const [worker] = ownProcesses(run.process.pid, "worker");
    const devices = ownProcesses(worker);
    kill([worker]);
    expect((await run.ended).code).toBe(2);
    await vi.waitUntil(() => devices.every((device) => isGone(device)), { timeout: 10_000 });
  });

  it.each([
    ["gpu:0,gpu:0", "gpu:0 is named twice: one device computes one rank at a time"],
    ["gpu:0,", "a name is empty, give e.g. gpu:0,gpu:1 or cpu,cpu"],
    ["gpu:0,gpu", "gpu is no device, give e.g. gpu:0,gpu:1 or cpu,cpu"],
    [Array.from({ length: 65 }, () => "cpu").join(","), "a worker has 64 devices at most"],
  ])("refuses --devices %s", async (list, reason) => {
    const { code, stderr } = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--devices", list]);
    expect(code).toBe(2);
    expect(stderr).toBe(`tandem: --devices ${list}: ${reason}\n`);
  });

  it("refuses --device beside it, and GPUs for several workers of one machine", async () => {
    const both = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--devices", "cpu,cpu", "--device", "cpu"]);
    expect([both.code, both.stderr]).toEqual([
      2,
      "tandem: --devices cpu,cpu: --device names one device, --devices several: give one of the two\n",
    ]);
    const shared = await tandem(["train", "--devices", "gpu:0,gpu:1", "--workers", "2", "--out", join(folder, "none")]);
    expect([shared.code, shared.stderr]).toEqual([
      2,
      "tandem: each of 2 workers would compute on gpu:0,gpu:1: give --workers 1, which has all of them\n",
    ]);
  });
});

function isGone(pid: number): boolean {
  try {
    // A process that has ended, and whose end nobody has heard of, has no command line.
    return readFileSync(`/proc/${String(pid)}/cmdline`, "utf8") === "";
  } catch {
    return true;
  }
}
