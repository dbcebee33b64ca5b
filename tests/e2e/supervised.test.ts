/** What a supervisor that always starts the same needs: a run begun or taken up, a coordinator that stays, exit codes that say what to do. */
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import {
  checkpointOf,
  eventsOf,
  kill,
  SMALL_RUN,
  start,
  tandem,
  stepsOf,
  temporaryFolder,
  type Running,
} from "./tandem.js";
import { freePorts } from "./chaos.js";

const folder = temporaryFolder();
const RUN = [...SMALL_RUN, "--steps", "60", "--set", "membership.minWorkers=1", "--set", "checkpoint.everySteps=10"];

async function addressOf(coordinator: Running): Promise<string> {
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  return /tcp:\/\/127\.0\.0\.1:\d+/.exec(coordinator.stderr())?.[0] ?? "";
}

describe("under a supervisor", { timeout: 120_000 }, () => {
  it("the same command begins a run, takes it up, and tells late workers that it is over", async () => {
    const calm = join(folder, "calm");
    expect((await tandem(["train", ...RUN, "--workers=1", "--out", calm])).code).toBe(0);
    const out = join(folder, "run");
    const command = (listen: string) => ["coordinator", ...RUN, "--supervised", "--listen", listen, "--out", out]; // prettier-ignore
    // Later ones take the same port again, and the one behind it.
    const connect = `tcp://127.0.0.1:${await freePorts()}`;
    const first = start(command(connect));
    await addressOf(first);
    const worker = start(["worker", "--connect", connect]);
    const steps = () => stepsOf(out);
    await vi.waitUntil(() => steps() > 12, { timeout: 40_000 });
    kill([first.process.pid ?? 0]);
    await first.ended;
    // Asked to stop it stores the state, and its worker waits for the next.
    const stopped = start(command(connect));
    await vi.waitUntil(() => steps() > 30, { timeout: 40_000 });
    stopped.process.kill("SIGTERM");
    expect((await stopped.ended).code, stopped.stderr()).toBe(0);
    const second = start(command(connect));
    expect((await worker.ended).code, worker.stderr()).toBe(0);
    await vi.waitUntil(() => second.stderr().includes("the run has finished; whoever comes is told so"));
    const late = await tandem(["worker", "--connect", connect, "--exit-when-drained", "143"]);
    expect([late.code, late.stderr.includes("the run has finished")]).toEqual([0, true]);
    second.process.kill("SIGTERM");
    expect((await second.ended).code, second.stderr()).toBe(0);
    expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
    // It is over by then, and is so again.
    const third = start(command(connect));
    await vi.waitUntil(() => third.stderr().includes("the run has finished; whoever comes is told so"), 20_000);
    third.process.kill("SIGTERM");
    expect((await third.ended).code, third.stderr()).toBe(0);
  });

  it("an aggregator waits as a worker does, and a supervised worker serves the run after", async () => {
    const out = join(folder, "sharded");
    const connect = `tcp://127.0.0.1:${await freePorts()}`;
    const serve = (place: string, ...more: string[]) =>
      start(["coordinator", ...RUN, "--supervised", "--listen", connect, "--out", place, ...more]);
    const first = serve(out, "--aggregators=1");
    const aggregator = start(["aggregator", "--connect", connect, "--exit-when-drained", "143"]);
    const worker = start(["worker", "--connect", connect, "--supervised"]);
    await vi.waitUntil(() => stepsOf(out) > 12, { timeout: 40_000 });
    first.process.kill("SIGTERM");
    expect((await first.ended).code, first.stderr()).toBe(0);
    const second = serve(out, "--aggregators=1");
    expect((await aggregator.ended).code, aggregator.stderr()).toBe(0);
    const late = await tandem(["aggregator", "--connect", connect, "--exit-when-drained", "143"]);
    expect([late.code, late.stderr.includes("the run has finished")]).toEqual([0, true]);
    second.process.kill("SIGTERM");
    await second.ended;
    expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(join(folder, "calm"))).sha256);

    const next = join(folder, "next");
    const third = serve(next);
    await vi.waitUntil(() => third.stderr().includes("the run has finished"), { timeout: 40_000 });
    expect((await checkpointOf(next)).sha256).toEqual((await checkpointOf(join(folder, "calm"))).sha256);
    for (const process of [worker, third]) {
      process.process.kill("SIGTERM");
      expect((await process.ended).code, process.stderr()).toBe(0);
    }
  });

  it("a coordinator says by its exit code that the run goes on, and not where it is over", async () => {
    const out = join(folder, "evicted");
    const command = (...more: string[]) => ["coordinator", ...RUN, "--supervised", "--exit-when-drained=143", "--listen=tcp://127.0.0.1:*", "--out", out, ...more]; // prettier-ignore
    const first = start(command());
    await addressOf(first);
    first.process.kill("SIGTERM");
    expect((await first.ended).code, first.stderr()).toBe(143);
    const second = start(["coordinator", "--resume", "--supervised", "--exit-when-drained=143", "--listen=tcp://127.0.0.1:*", "--out", join(folder, "run")]); // prettier-ignore
    await vi.waitUntil(() => second.stderr().includes("the run has finished; whoever comes"), { timeout: 20_000 });
    second.process.kill("SIGTERM");
    expect((await second.ended).code, second.stderr()).toBe(0);
  });

  it("another run in its directory is refused by the key that differs", async () => {
    const [out, flags] = [join(folder, "run"), ["--supervised", "--listen", "tcp://127.0.0.1:*"]];
    const { code, stderr } = await tandem([
      "coordinator",
      ...RUN,
      ...flags,
      "--set",
      "moco.temperature=0.5",
      "--out",
      out,
    ]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^tandem: .* was begun with moco\.temperature = 0\.2/)]);
  });

  it("a worker that is asked to leave says so by its exit code, whether it had work or not", async () => {
    const out = join(folder, "left");
    const coordinator = start(["coordinator", ...RUN, "--steps=100000", "--listen", "tcp://127.0.0.1:*", "--out", out].filter((flag, index, all) => all[index - 1] !== "--steps" && flag !== "--steps")); // prettier-ignore
    const connect = await addressOf(coordinator);
    const busy = start(["worker", "--connect", connect, "--exit-when-drained", "143"]);
    await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "step"), { timeout: 40_000 });
    busy.process.kill("SIGTERM");
    expect((await busy.ended).code, busy.stderr()).toBe(143);
    const polite = start(["worker", "--connect", connect]);
    await vi.waitUntil(() => polite.stderr().includes("welcome"), { timeout: 40_000 });
    polite.process.kill("SIGTERM");
    expect((await polite.ended).code, polite.stderr()).toBe(0);
    const alone = start(["worker", "--connect", "tcp://127.0.0.1:1", "--exit-when-drained", "143"]);
    await vi.waitUntil(() => alone.stderr().includes("looking for"), { timeout: 40_000 });
    alone.process.kill("SIGTERM");
    expect((await alone.ended).code, alone.stderr()).toBe(143);
    coordinator.process.kill("SIGTERM");
    expect((await coordinator.ended).code).toBe(0);
  });

  it.each(["256", "-1", "1.5"])("refuses --exit-when-drained %s", async (code) => {
    const ended = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", `--exit-when-drained=${code}`]);
    expect([ended.code, ended.stderr.startsWith("tandem: --exit-when-drained ")]).toEqual([2, true]);
  });
});
