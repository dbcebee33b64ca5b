/**
 * The same bits for any number of workers, and through a stop and a resumption. Real processes, real sockets. `npm run invariance`
 * has variants; in `npm test` methods.test.ts has them along with its methods.
 */
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { checkpointOf, digestsWith, eventsOf, IS_FULL, SMALL_RUN, start, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const WORKERS = IS_FULL ? [2, 3, 4] : [3];
/** Steps of a variant. */
const FEW = ["--steps", "4"];
const ADAMW = ["--optimizer=adamw", "--set=optimizer.clipNorm=1", "--set=moco.keyMomentumSchedule=cosine"];
// Weights that travel in several buckets: vit-tiny has five.
const VIT = ["--encoder=vit-tiny", "--set=model.patchSize=4"];
const BF16 = ["--precision=bf16", "--set=parallel.gradients=bf16"];
const VARIANTS: readonly (readonly string[])[] = IS_FULL
  ? [["--precision=bf16"], BF16, ["--eager"], ["--optimizer=lars"], ADAMW, VIT, ["--encoder=resnet18"]]
  : [];
/** Of processes that aggregate, in runs with so many workers. */
const SHARDED = IS_FULL ? [1, 2, 3, 7] : [];
const SIGNALS: readonly ("SIGINT" | "SIGTERM")[] = IS_FULL ? ["SIGINT", "SIGTERM"] : ["SIGTERM"];
const STEPS = ["--steps", "12"];
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
  expect(step).toBe(12);
  expect(Object.keys(sha256).sort()).toEqual(["buffers", "key", "optimizer", "query", "queue"]);
  expect(new Set(Object.values(sha256)).size).toBe(5);
  reference = sha256;
}, 120_000);

describe("a run of four ranks and twelve steps", () => {
  it(`leaves the digests of one worker with ${WORKERS.join(", ")}`, { timeout: 120_000 }, async () => {
    const runs = WORKERS.map((workers) => train(`with-${workers}`, ["--workers", String(workers)]));
    for (const { out } of await Promise.all(runs)) expect((await checkpointOf(out)).sha256).toEqual(reference);
  });

  it("leaves them with an aggregator beside each worker", { timeout: 120_000 }, async () => {
    const { out, stderr } = await train("per-worker", ["--workers", "2", "--aggregators", "per-worker"]);
    expect(stderr).toContain("waiting: 0 of 2 aggregators are here");
    expect((await checkpointOf(out)).sha256).toEqual(reference);
  });

  it(
    "leaves others with gradients in bf16, which are the same with other workers and aggregators",
    { timeout: 120_000 },
    async () => {
      const flags = [...FEW, "--set=parallel.gradients=bf16"];
      const [one, more] = await digestsWith(folder, flags, [1, 3]);
      expect(more).toEqual(one);
      expect(one).not.toEqual(reference);
      const [sharded] = await digestsWith(folder, [...flags, "--aggregators=2"], [2]);
      expect(sharded).toEqual(one);
    },
  );

  it.each(SHARDED)("leaves them with %i aggregators", { timeout: 120_000 }, async (aggregators) => {
    const { out } = await train(`sharded-${aggregators}`, ["--workers", "3", "--aggregators", String(aggregators)]);
    expect((await checkpointOf(out)).sha256).toEqual(reference);
  });

  it.runIf(IS_FULL)(
    "leaves them when stopped after step 6 and resumed with other workers",
    { timeout: 120_000 },
    async () => {
      const { out, stdout } = await train("stopped", ["--workers", "2", "--stop-after", "6"]);
      expect(stdout).toContain("stopped at step 6 of 12");
      expect(stdout).toContain(`npx tandem train --resume --out ${out}`);
      const stopped = await checkpointOf(out);
      expect(stopped.step).toBe(6);
      expect(stopped.sha256).not.toEqual(reference);
      const resumed = await tandem(["train", "--resume", "--out", out, "--workers", "3"]);
      expect(resumed.code, resumed.stderr).toBe(0);
      expect(await checkpointOf(out)).toMatchObject({ step: 12, sha256: reference });
    },
  );

  it.each(VARIANTS)(
    "leaves the same for any number of workers with %s %s %s %s",
    { timeout: 120_000 },
    async (...flags) => {
      const [one, more] = await digestsWith(folder, [...FEW, ...flags], [1, 3]);
      expect(more).toEqual(one);
      const [sharded] = await digestsWith(folder, [...FEW, ...flags, "--aggregators=2"], [2]);
      expect(sharded).toEqual(one);
    },
  );

  it.runIf(IS_FULL)("leaves others with another seed", { timeout: 120_000 }, async () => {
    const { out } = await train("seed", ["--workers", "2", "--set", "seed=8"]);
    expect((await checkpointOf(out)).sha256).not.toEqual(reference);
  });

  it.concurrent.each(SIGNALS)(
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
      expect(stdout).toMatch(/^stopped at step \d+ of 12/);
      const resumed = await tandem(["train", "--resume", "--out", out, "--workers", "3"]);
      expect(resumed.code, resumed.stderr).toBe(0);
      expect((await checkpointOf(out)).sha256).toEqual(reference);
    },
  );
});
