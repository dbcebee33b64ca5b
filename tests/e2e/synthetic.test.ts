/** A run whose ranks compute nothing: everything else of it is a run's own. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { checkpointOf, eventsOf, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const SYNTHETIC = [...SMALL_RUN, "--set=engine.mode=synthetic", "--steps=6", "--ui=off"];

async function trained(name: string, flags: readonly string[]) {
  const out = join(folder, name);
  const { code, stderr } = await tandem(["train", ...SYNTHETIC, ...flags, "--out", out]);
  expect(code, stderr).toBe(0);
  return { sha256: (await checkpointOf(out)).sha256, steps: eventsOf(out).filter(({ kind }) => kind === "step") };
}

it.each([
  ["moco-v2", ["--set=engine.synthetic.parameters=12345"]],
  ["simclr", ["--set=parallel.gradients=bf16"]],
])("of %s ends with the same bits, whoever has which rank", { timeout: 60_000 }, async (method, own) => {
  const flags = [...own, `--method=${method}`];
  const alone = await trained(`${method}-1`, [...flags, "--workers=1"]);
  const apart = await trained(`${method}-3`, [...flags, "--workers=3", "--no-shared-memory", "--aggregators=2"]);
  expect(apart.sha256).toEqual(alone.sha256);
});

it("takes as long for a rank as it was told to", { timeout: 60_000 }, async () => {
  const { steps } = await trained("slow", ["--set=engine.synthetic.rankMs=60", "--workers=2"]);
  // Each worker has two of the four ranks.
  for (const { stepMs } of steps as unknown as { stepMs: number }[]) expect(stepMs).toBeGreaterThan(2 * 59);
});

it("has nothing to evaluate", async () => {
  const flags = ["--set=evaluation.everyEpochs=1", "--out", join(folder, "evaluated")];
  const { code, stderr } = await tandem(["train", ...SYNTHETIC, ...flags]);
  expect(code).toBe(2);
  expect(stderr).toBe(
    "tandem: engine.mode = synthetic computes no features to evaluate: set evaluation.everyEpochs to 0, as --set evaluation.everyEpochs=0\n",
  );
});
