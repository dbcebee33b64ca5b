/** How weights reach the workers never shows in what is trained, nor in what is evaluated on the way. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { checkpointOf, eventsOf, SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();

async function trained(name: string, flags: readonly string[]) {
  const out = join(folder, name);
  const run = [
    ...SMALL_RUN,
    "--precision",
    "bf16",
    "--set",
    "evaluation.everyEpochs=1",
    "--epochs",
    "1",
    "--workers",
    "2",
  ];
  const { code, stderr } = await tandem(["train", ...run, ...flags, "--out", out]);
  expect(code, stderr).toBe(0);
  const scores = eventsOf(out)
    .filter(({ kind }) => kind === "evaluated")
    .map((event) => (event as { accuracy?: number }).accuracy);
  return { sha256: (await checkpointOf(out)).sha256, scores };
}

it("is the same through memory, in float32, in bfloat16 and as differences", { timeout: 240_000 }, async () => {
  const shared = await trained("shared", []);
  expect(shared.scores.length).toBeGreaterThan(0);
  const apart = ["--no-shared-memory", "--wire-weights"];
  for (const flags of [
    [...apart, "fp32"],
    [...apart, "bf16"],
    [...apart, "delta", "--aggregators", "2"],
    [...apart, "delta", "--workers=1"],
    ["--data-delivery", "stream"],
  ])
    expect(await trained(flags.join(""), flags), flags.join(" ")).toEqual(shared);
});
