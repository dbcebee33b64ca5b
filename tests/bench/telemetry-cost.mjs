/**
 * What looking costs: steps of 8 workers with a dashboard that a page is open on, TensorBoard's files, and /metrics of all processes scraped every 15 s,
 * as Prometheus is mostly told to, beside the same without any of it, in turn. Ranks take a fixed time and compute nothing.
 *
 * usage: node tests/bench/telemetry-cost.mjs [--workers 8] [--rank-ms 100] [--steps 600] [--rounds 3]
 */
import { clearInterval, setInterval } from "node:timers";
import { parseArgs } from "node:util";
import { median } from "./median.mjs";
import { stepTime, syntheticRun } from "./synthetic-run.mjs";

const SCRAPE_MS = 15_000;

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "8" },
    "rank-ms": { type: "string", default: "100" },
    steps: { type: "string", default: "600" },
    rounds: { type: "string", default: "3" },
  },
});
const workers = Number(values.workers);
const { steps } = values;
const ranks = ["--set", `engine.synthetic.rankMs=${values["rank-ms"]}`];
/** The coordinator's; the workers' follow. */
const HEALTH_PORT = 7410;
const UI_PORT = 7409;

/** A page that is open, and Prometheus. @returns {() => void} closes them */
function lookAt() {
  const url = `http://127.0.0.1:${UI_PORT}/`;
  const closing = new AbortController();
  const { signal } = closing;
  const read = async () => {
    await (await fetch(new URL("/api/run", url), { signal })).text();
    const stream = await fetch(new URL("/api/stream", url), { signal });
    for await (const piece of stream.body ?? []) void piece;
  };
  read().catch(() => undefined);
  const scrape = (port) => fetch(`http://127.0.0.1:${port}/metrics`, { signal }).then((answer) => answer.text());
  const timer = setInterval(() => {
    for (let process = 0; process <= workers; process++) scrape(HEALTH_PORT + process).catch(() => undefined);
  }, SCRAPE_MS);
  return () => {
    clearInterval(timer);
    closing.abort();
  };
}

const watched = () =>
  syntheticRun({
    ...{ workers, steps, begun: lookAt },
    flags: [...ranks, "--ui", `127.0.0.1:${UI_PORT}`, "--health", `127.0.0.1:${HEALTH_PORT}`],
    workerFlags: (index) => ["--health", `127.0.0.1:${HEALTH_PORT + 1 + index}`],
  });
const alone = () => syntheticRun({ workers, steps, flags: [...ranks, "--ui", "off", "--no-tensorboard"] });

const ratios = [];
for (let round = 0; round < Number(values.rounds); round++) {
  const both = round % 2 === 0 ? [watched, alone] : [alone, watched];
  const times = new Map();
  for (const run of both) times.set(run, stepTime(await run()));
  ratios.push(times.get(watched) / times.get(alone));
  console.log(
    `round ${round + 1}: ${times.get(watched).toFixed(2)} ms watched, ${times.get(alone).toFixed(2)} ms alone`,
  );
}
console.log(
  `${workers} workers: ${(100 * (median(ratios) - 1)).toFixed(2)}% more a step, the median of ${ratios.length} rounds`,
);
