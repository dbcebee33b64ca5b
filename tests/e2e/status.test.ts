/** A worker whose engine computes other bits, and what `tandem status` says of a run: while it trains, is left, goes on and ends. */
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { freePorts } from "./chaos.js";
import { eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
/**
 * TensorFlow without oneDNN sums in another order: machines of two kinds, as far as bits go. (Which of them is the default
 * depends on the processor.)
 */
const ONE_KIND = { TF_ENABLE_ONEDNN_OPTS: "1" };
const OTHER_KIND = { TF_ENABLE_ONEDNN_OPTS: "0" };
const LONG = [...SMALL_RUN, "--steps", "100000", "--set", "checkpoint.everySteps=5"];

async function statusOf(directory: string) {
  const { code, stdout, stderr } = await tandem(["status", directory]);
  expect(code, stderr).toBe(0);
  return stdout;
}

const count = (directory: string, kind: string) => eventsOf(directory).filter((event) => event.kind === kind).length;

async function begin(directory: string, port: number, flags: readonly string[]) {
  const coordinator = start(["coordinator", ...flags, "--out", directory, "--listen", `tcp://127.0.0.1:${port}`]);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  return coordinator;
}

const worker = (port: number, env: Readonly<Record<string, string>>) =>
  start(["worker", "--connect", `tcp://127.0.0.1:${port}`], undefined, env);

describe("a worker of another kind", { timeout: 120_000 }, () => {
  it("is refused by default", async () => {
    const directory = join(folder, "strict");
    const port = await freePorts();
    const coordinator = await begin(directory, port, LONG);
    const first = worker(port, ONE_KIND);
    await vi.waitUntil(() => count(directory, "worker-joined") === 1, { timeout: 30_000 });
    const { code, stderr } = await worker(port, OTHER_KIND).ended;
    expect(code).toBe(2);
    expect(stderr).toMatch(/computes other bits \(fingerprint \w+, the run's is \w+\): use the same kind of processor/);
    expect(await statusOf(directory)).toMatch(/^bits +reproducible$/m);
    coordinator.process.kill("SIGTERM");
    expect((await coordinator.ended).code).toBe(0);
    expect((await first.ended).code).toBe(0);
  });

  it("is admitted where the config says so, and status, checkpoint and log say what that costs", async () => {
    const directory = join(folder, "mixed");
    const port = await freePorts();
    const mixed = ["--set", "membership.allowMixedHardware=true", "--set", "membership.minWorkers=2"];
    const coordinator = await begin(directory, port, [...LONG, ...mixed]);
    const workers = [ONE_KIND, OTHER_KIND].map((kind) => worker(port, kind));
    await vi.waitUntil(() => count(directory, "checkpointed") > 0, { timeout: 60_000 });
    expect(coordinator.stderr()).toContain("this run can no longer be repeated bit for bit");
    const running = await statusOf(directory);
    expect(running).toMatch(/: running$/m);
    expect(running).toContain(`process ${String(coordinator.process.pid)} on `);
    expect(running).toMatch(/^workers +worker-1, .*\n +worker-2, /m);
    expect(running).toMatch(/^bits +not reproducible: /m);

    coordinator.process.kill("SIGKILL");
    await coordinator.ended;
    const left = await statusOf(directory);
    expect(left).toMatch(/: left in the middle$/m);
    const again = /go on with npx tandem (.*)$/m.exec(left)?.[1] ?? "";
    expect(again).toBe(`coordinator --resume --out ${directory} --listen tcp://127.0.0.1:${port}`);

    const joined = count(directory, "worker-joined");
    const next = start(again.split(" "));
    // Both: a worker that still looks for its coordinator when that ends goes on looking, for as long as --patience.
    await vi.waitUntil(() => count(directory, "worker-joined") === joined + 2, { timeout: 30_000 });
    expect(await statusOf(directory)).toMatch(/^bits +not reproducible: /m);
    next.process.kill("SIGTERM");
    expect((await next.ended).code, next.stderr()).toBe(0);
    for (const { ended } of workers) expect((await ended).code).toBe(0);

    const stopped = await statusOf(directory);
    expect(stopped).toMatch(/: stopped$/m);
    expect(stopped).toMatch(/^coordinator +none$/m);
    expect((await tandem(["checkpoint", directory])).stdout).toMatch(/^bits +not reproducible: /m);
  });
});

it("status of a directory without a run says so", async () => {
  const { code, stderr } = await tandem(["status", folder]);
  expect(code).toBe(2);
  expect(stderr).toBe(`tandem: ${folder} holds no run (no config.yaml): give the directory that --out named\n`);
});
