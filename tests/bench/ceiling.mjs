/**
 * The orchestration's ceiling: steps a second where ranks take no time at all (engine.mode = synthetic, 0 ms) and the model has 10,000
 * parameters, with real sockets; and where a step's time goes. All share this machine's cores, which so many processes as workers
 * would spend on taking turns: WORKERS/PROCESSES lets that many processes have the workers, each of which has its session and sockets.
 *
 * usage: node tests/bench/ceiling.mjs [--workers 1,8/2,64/2,64] [--steps 6000,3000,2000,800] [--rounds 3] [--json] [-- FLAGS OF tandem coordinator]
 */
import { parseArgs } from "node:util";
import { median } from "./median.mjs";
import { stepTime, syntheticRun } from "./synthetic-run.mjs";

const STAGES = ["load", "forward", "backward", "wait", "send", "aggregate", "broadcast"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    workers: { type: "string", default: "1,8/2,64/2,64" },
    steps: { type: "string", default: "6000,3000,2000,800" },
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const counts = values.workers.split(",").map((said) => {
  const [workers, processes = workers] = said.split("/").map(Number);
  return { workers, processes };
});
const lengths = values.steps.split(",");

const QUIET = ["--ui", "off", "--no-tensorboard", ...positionals];

/**
 * @param {{ workers: number, processes: number }} count
 * @param {string} steps
 * @returns {Promise<{ perSecond: number, stages: Record<string, number> }>}
 */
async function measure(count, steps) {
  const events = await syntheticRun({ ...count, steps, flags: QUIET });
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
  for (const [index, count] of counts.entries())
    rounds[index].push(await measure(count, lengths[index] ?? lengths.at(-1)));
for (const [index, { workers, processes }] of counts.entries()) {
  const perSecond = median(rounds[index].map((round) => round.perSecond));
  const stages = Object.fromEntries(
    STAGES.map((stage) => [stage, median(rounds[index].map((round) => round.stages[stage]))]),
  );
  const parts = STAGES.filter((stage) => stages[stage] >= 0.0005).map(
    (stage) => `${stage} ${(100 * stages[stage]).toFixed(1)}%`,
  );
  console.log(
    values.json
      ? JSON.stringify({ workers, processes, stepsPerSecond: perSecond, stages })
      : `${String(workers).padStart(2)} workers in ${processes} process${processes === 1 ? "" : "es"}: ${perSecond.toFixed(1)} steps/s (${parts.join(", ")})`,
  );
}
