/**
 * The orchestration's ceiling: steps a second where ranks take no time at all (engine.mode = synthetic, 0 ms) and the model has 10,000
 * parameters, with real processes and sockets; and where a step's time goes. All of them share this machine's cores.
 *
 * usage: node tests/bench/ceiling.mjs [--workers 1,8,64] [--steps 6000,3000,800] [--rounds 3] [--json] [-- FLAGS OF tandem coordinator]
 */
import { parseArgs } from "node:util";
import { median } from "./median.mjs";
import { stepTime, syntheticRun } from "./synthetic-run.mjs";

const STAGES = ["load", "forward", "backward", "wait", "send", "aggregate", "broadcast"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    workers: { type: "string", default: "1,8,64" },
    steps: { type: "string", default: "6000,3000,800" },
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const counts = values.workers.split(",").map(Number);
const lengths = values.steps.split(",");

const QUIET = ["--ui", "off", "--no-tensorboard", ...positionals];

/** @param {number} workers @param {string} steps @returns {Promise<{ perSecond: number, stages: Record<string, number> }>} */
async function measure(workers, steps) {
  const events = await syntheticRun({ workers, steps, flags: QUIET });
  return { perSecond: 1000 / stepTime(events), stages: shares(events.filter(({ kind }) => kind === "stages")) };
}

/** @param {{ workers: Record<string, number>[] }[]} said what workers' time went into */
function shares(said) {
  const totals = Object.fromEntries(STAGES.map((stage) => [stage, 0]));
  for (const own of said.flatMap(({ workers }) => workers))
    for (const stage of STAGES) totals[stage] += own[`${stage}Ms`] ?? own[stage] ?? 0;
  const all = Object.values(totals).reduce((sum, ms) => sum + ms, 0);
  return Object.fromEntries(STAGES.map((stage) => [stage, totals[stage] / all]));
}

const rounds = counts.map(() => []);
for (let round = 0; round < Number(values.rounds); round++)
  for (const [index, workers] of counts.entries())
    rounds[index].push(await measure(workers, lengths[index] ?? lengths.at(-1)));
for (const [index, workers] of counts.entries()) {
  const perSecond = median(rounds[index].map((round) => round.perSecond));
  const stages = Object.fromEntries(
    STAGES.map((stage) => [stage, median(rounds[index].map((round) => round.stages[stage]))]),
  );
  const parts = STAGES.filter((stage) => stages[stage] >= 0.0005).map(
    (stage) => `${stage} ${(100 * stages[stage]).toFixed(1)}%`,
  );
  console.log(
    values.json
      ? JSON.stringify({ workers, stepsPerSecond: perSecond, stages })
      : `${String(workers).padStart(2)} workers: ${perSecond.toFixed(1)} steps/s (${parts.join(", ")})`,
  );
}
