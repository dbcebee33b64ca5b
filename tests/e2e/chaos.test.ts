/**
 * Kill anything, at any moment, any number of times: the trained weights are those of an undisturbed run. `npm run chaos` makes
 * thirty runs and prints how long they took to recover.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { chaos, CHAOS_KINDS, chaosRun, type ChaosReport, type Recovery } from "./chaos.js";
import { checkpointOf, tandem, temporaryFolder } from "./tandem.js";

const RUNS = Number(process.env["CHAOS_RUNS"] ?? 2);
const FIRST_SEED = Number(process.env["CHAOS_SEED"] ?? 1);

const folder = temporaryFolder();
/** Digests of undisturbed runs, by the remainder of a seed. */
const quiet: Readonly<Record<string, string>>[] = [];

beforeAll(async () => {
  const digests = async (remainder: number) => {
    const out = join(folder, `quiet-${remainder}`);
    const { code, stderr } = await tandem(["train", ...chaosRun(remainder), "--workers", "1", "--out", out]);
    expect(code, stderr).toBe(0);
    return (await checkpointOf(out)).sha256;
  };
  for (let remainder = 0; remainder < CHAOS_KINDS; remainder++) quiet.push(await digests(remainder));
}, 240_000);

function summary({ troubles, stepsRepeated, recoveries, stepMs }: ChaosReport): string {
  const kinds = Object.entries(troubles).map(([kind, count]) => `${kind} ${count}`);
  const times = (values: readonly Recovery[]) =>
    values.map(({ ms, alone }) => (ms / 1000).toFixed(1) + (alone ? "" : "*")).join(" ") || "none";
  return (
    `${kinds.join(", ")}; steps computed again ${stepsRepeated}; median step ${stepMs.toFixed(0)} ms; ` +
    `seconds to the next step (*: more happened meanwhile) after a killed worker: ${times(recoveries.worker)}; after a killed coordinator: ${times(recoveries.coordinator)}; ` +
    `after a killed aggregator: ${times(recoveries.aggregator)}`
  );
}

/** Many are measured, one at a time; the few of `npm test` go on side by side. */
const concurrent = RUNS <= 2;

describe("a run to which everything happens", { concurrent }, () => {
  const seeds = Array.from({ length: RUNS }, (_, index) => FIRST_SEED + index);
  it.each(seeds)("ends with the digests of a quiet run (seed %i)", { timeout: 300_000 }, async (seed) => {
    const place = join(folder, String(seed));
    mkdirSync(place);
    const report = await chaos(place, seed);
    process.stdout.write(`chaos ${seed}: ${summary(report)}\n`);
    expect(report.sha256).toEqual(quiet[seed % CHAOS_KINDS]);
  });
});
