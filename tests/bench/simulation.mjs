/**
 * Whether `tandem simulate` tells the truth: step times of real coordinators, aggregators and workers, each in a network namespace of its
 * own behind a link of a known bandwidth, beside what is predicted. Ranks take a fixed time and compute nothing (engine.mode = synthetic),
 * so that many workers fit on few cores. Needs root and iproute2; leaves nothing behind.
 *
 * usage: node tests/bench/simulation.mjs [--workers 1,2,4,8] [--gbits 0.25,0.5,1] [--aggregation embedded,sharded] [--params 2000000]
 *        [--rank-ms 200] [--steps 10] [--rounds 1] [--json] [--report FILE]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { listing, page, paragraph, table } from "../../dist/src/cli/report/html.js";
import { lineChart } from "../../dist/src/cli/report/line-chart.js";
import { lastLine } from "./last-line.mjs";
import { median } from "./median.mjs";
import { Namespaces } from "./namespaces.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
/** Steps that are not counted. */
const WARMUP = 3;
/** Much smaller than a gradient, and larger than what the kernel handles as one packet, which would cost this machine a core to cut up. */
const BURST = "96kb";
/** Nothing is dropped: senders that all begin at once would wait for TCP to notice, 200 ms each time. */
const QUEUE = "1000ms";
const PORT = 7311;

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "1,2,4,8" },
    gbits: { type: "string", default: "0.25,0.5,1" },
    aggregation: { type: "string", default: "embedded,sharded" },
    params: { type: "string", default: "2000000" },
    "rank-ms": { type: "string", default: "200" },
    steps: { type: "string", default: "10" },
    rounds: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    report: { type: "string" },
  },
});
const counts = values.workers.split(",").map(Number);
const namespaces = new Namespaces(Math.max(...counts) + 1);
const [own, ...others] = namespaces.hosts;

const config = [
  ...["--preset", "quickstart", "--batch", "2", "--set", "moco.queueSize=64", "--set", "evaluation.everyEpochs=0"],
  ...["--set", "engine.mode=synthetic", "--set", `engine.synthetic.rankMs=${values["rank-ms"]}`],
  ...["--set", `engine.synthetic.parameters=${values.params}`],
];

/** @param {{ name: string }} host @param {string[]} args */
function start(host, args) {
  const child = spawn("ip", ["netns", "exec", host.name, process.execPath, PROGRAM, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (bytes) => (stderr += bytes));
  return { child, ended: once(child, "close").then(([code]) => ({ code, stderr })) };
}

/** @param {number} workers @param {string} aggregation @returns {Promise<number>} mean step time in ms */
async function measured(workers, aggregation) {
  const folder = mkdtempSync(join(tmpdir(), "tandem-simulation-"));
  const out = join(folder, "run");
  const connect = `tcp://${own.address}:${PORT}`;
  const isSharded = aggregation === "sharded";
  const length = [
    "--world-size",
    `${workers}`,
    "--steps",
    `${values.steps}`,
    "--set",
    `membership.minWorkers=${workers}`,
  ];
  const quiet = [
    "--set",
    "checkpoint.everySteps=0",
    "--ui",
    "off",
    "--no-tensorboard",
    "--no-shared-memory",
    "--insecure",
  ];
  const shards = isSharded ? ["--aggregators", `${workers}`] : [];
  const run = start(own, ["coordinator", ...config, ...length, ...quiet, ...shards, "--listen", connect, "--out", out]);
  await sleep(500);
  const members = others
    .slice(0, workers)
    .flatMap((host) => [
      start(host, ["worker", "--connect", connect]),
      ...(isSharded
        ? [start(host, ["aggregator", "--connect", connect, "--listen", `tcp://${host.address}:*`, "--insecure"])]
        : []),
    ]);
  const { code, stderr } = await run.ended;
  await Promise.all(members.map(({ ended }) => ended));
  if (code !== 0) throw new Error(stderr);
  const events = readFileSync(join(out, "events.jsonl"), "utf8").trim().split("\n");
  rmSync(folder, { recursive: true });
  const steps = events.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "step");
  const times = steps.slice(WARMUP).map(({ stepMs }) => stepMs);
  return times.reduce((sum, ms) => sum + ms, 0) / times.length;
}

/** @param {number} workers @param {string} aggregation @param {string} gbits @returns {number} ms */
function predicted(workers, aggregation, gbits) {
  const network = ["--no-shared-memory", "--gbits", gbits, "--most-aggregators", `${workers}`];
  const ranks = [
    "--rank-ms",
    values["rank-ms"],
    "--spread",
    "0",
    "--devices",
    `${workers}`,
    "--aggregation",
    aggregation,
  ];
  return lastLine(process.execPath, [PROGRAM, "simulate", ...config, ...ranks, ...network, "--json"]).points[0].stepMs;
}

if (!namespaces.setUp()) {
  process.stderr.write("skipped: network namespaces cannot be made here (root and iproute2 are needed)\n");
  process.exit(0);
}
/** @typedef {{ aggregation: string, gbits: string, workers: number, real: number, simulated: number }} Compared */

/** @param {readonly Compared[]} found @returns {string} a page */
function reportOf(found) {
  const cases = [...new Set(found.map(({ aggregation, gbits }) => `${aggregation}, ${gbits} Gbit/s`))];
  const charts = cases.map((name) => {
    const own = found.filter(({ aggregation, gbits }) => `${aggregation}, ${gbits} Gbit/s` === name);
    const points = (of) => own.map((each) => ({ x: each.workers, y: of(each) }));
    const series = [
      { name: "measured", points: points(({ real }) => real) },
      { name: "predicted", points: points(({ simulated }) => simulated), isModel: true },
    ];
    return lineChart({ title: `Step time, ${name}`, xLabel: `workers (${name})`, yLabel: "ms", series });
  });
  const rows = found.map(({ aggregation, gbits, workers, real, simulated }) => [
    ...[`${aggregation}, ${gbits} Gbit/s, ${workers} workers`, real.toFixed(0), simulated.toFixed(0)],
    `${(100 * (simulated / real - 1)).toFixed(1)}%`,
  ]);
  const worst = Math.max(...found.map(({ real, simulated }) => Math.abs(simulated / real - 1)));
  const size = `${values.params} parameters, ranks of ${values["rank-ms"]} ms; the farthest from what was measured is ${(100 * worst).toFixed(1)}%.`;
  return page("Simulated and measured steps", [
    {
      heading: "In figures",
      content: [paragraph(size), table(["", "measured ms", "predicted ms", "difference"], rows)],
    },
    { heading: "Curves", content: charts },
    { heading: "Again", content: [listing([["node", ...process.argv.slice(1)].join(" ")])] },
  ]);
}

/** @type {Compared[]} */
const compared = [];
try {
  for (const aggregation of values.aggregation.split(","))
    for (const gbits of values.gbits.split(","))
      for (const workers of counts) {
        namespaces.limit(gbits, BURST, QUEUE);
        const rounds = [];
        for (let round = 0; round < Number(values.rounds); round++) rounds.push(await measured(workers, aggregation));
        const [real, simulated] = [median(rounds), predicted(workers, aggregation, gbits)];
        const ratio = simulated / real;
        compared.push({ aggregation, gbits, workers, real, simulated });
        console.log(
          values.json
            ? JSON.stringify({
                aggregation,
                gbits: Number(gbits),
                workers,
                measuredMs: real,
                predictedMs: simulated,
                ratio,
              })
            : `${aggregation.padEnd(9)} ${gbits.padStart(4)} Gbit/s ${String(workers).padStart(2)} workers: measured ${real.toFixed(0)} ms, predicted ${simulated.toFixed(0)} ms (${ratio.toFixed(3)})`,
        );
      }
  if (values.report !== undefined) writeFileSync(values.report, reportOf(compared));
} finally {
  namespaces.tearDown();
}
