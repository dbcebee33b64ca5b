/** The same bits for any number of workers, and through a stop and a resumption. Real processes, real sockets. */
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { checkpointOf, digestsWith, eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const STEPS = ["--steps", "20"];
let reference: Readonly<Record<string, string>> = {};

async function train(name: string, more: readonly string[]) {
  const out = join(folder, name);
  const ended = await tandem(["train", ...SMALL_RUN, ...STEPS, "--out", out, ...more]);
  expect(ended.code, ended.stderr).toBe(0);
  return { out, ...ended };
}

beforeAll(async () => {
  const { out } = await train("one", ["--workers", "1"]);
  const { step, sha256 } = await checkpointOf(out);
  expect(step).toBe(20);
  expect(Object.keys(sha256).sort()).toEqual(["buffers", "key", "optimizer", "query", "queue"]);
  expect(new Set(Object.values(sha256)).size).toBe(5);
  reference = sha256;
}, 120_000);

describe("a run of four ranks and twenty steps", () => {
  it("leaves the digests of one worker with 2, 3 and 4", { timeout: 120_000 }, async () => {
    const runs = [2, 3, 4].map((workers) => train(`with-${workers}`, ["--workers", String(workers)]));
    for (const { out } of await Promise.all(runs)) expect((await checkpointOf(out)).sha256).toEqual(reference);
  });

  it("leaves them when stopped after step 10 and resumed with other workers", { timeout: 120_000 }, async () => {
    const { out, stdout } = await train("stopped", ["--workers", "2", "--stop-after", "10"]);
    expect(stdout).toContain("stopped at step 10 of 20");
    expect(stdout).toContain(`npx tandem train --resume --out ${out}`);
    const stopped = await checkpointOf(out);
    expect(stopped.step).toBe(10);
    expect(stopped.sha256).not.toEqual(reference);
    const resumed = await tandem(["train", "--resume", "--out", out, "--workers", "3"]);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(await checkpointOf(out)).toMatchObject({ step: 20, sha256: reference });
  });

  it("leaves them also where the weights travel in several shards", { timeout: 120_000 }, async () => {
    const [one, two] = await digestsWith(folder, ["--encoder", "resnet18", "--steps", "3"], [1, 2]);
    expect(two).toEqual(one);
  });

  it.each([
    ["--precision", "bf16"],
    ["--eager"],
    ["--optimizer=lars"],
    ["--optimizer=adamw", "--set=optimizer.clipNorm=1", "--set=moco.keyMomentumSchedule=cosine"],
    ["--encoder=vit-tiny", "--set=model.patchSize=8", "--steps=3"],
  ])("leaves the same for any number of workers with %s %s", { timeout: 120_000 }, async (...flags) => {
    const steps = flags.some((flag) => flag.startsWith("--steps")) ? [] : ["--steps", "8"];
    const [one, three] = await digestsWith(folder, [...steps, ...flags], [1, 3]);
    expect(three).toEqual(one);
  });

  it("leaves others with another seed", { timeout: 120_000 }, async () => {
    const { out } = await train("seed", ["--workers", "2", "--set", "seed=8"]);
    expect((await checkpointOf(out)).sha256).not.toEqual(reference);
  });

  it.concurrent.each(["SIGINT", "SIGTERM"] as const)(
    "writes a checkpoint and exits 0 on %s, and then resumes to the same digests",
    { timeout: 120_000 },
    async (signal) => {
      const out = join(folder, signal);
      const running = start(["train", ...SMALL_RUN, ...STEPS, "--workers", "2", "--out", out]);
      await vi.waitUntil(() => eventsOf(out).some(({ kind, step }) => kind === "step" && step === 4), {
        timeout: 60_000,
      });
      running.process.kill(signal);
      const { code, stdout, stderr } = await running.ended;
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^stopped at step \d+ of 20/);
      const resumed = await tandem(["train", "--resume", "--out", out]);
      expect(resumed.code, resumed.stderr).toBe(0);
      expect((await checkpointOf(out)).sha256).toEqual(reference);
    },
  );
});
