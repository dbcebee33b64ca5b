/**
 * Whether `tandem simulate` tells the truth: step times of real coordinators, aggregators and workers, each in a network namespace of its
 * own behind a link of a known bandwidth, beside what is predicted. Ranks take a fixed time and compute nothing (engine.mode = synthetic),
 * so that many workers fit on few cores. Needs root and iproute2; leaves nothing behind.
 *
 * usage: node tests/bench/simulation.mjs [--workers 1,2,4,8] [--gbits 0.25,0.5,1] [--aggregation embedded,sharded] [--params 2000000]
 *        [--rank-ms 200] [--steps 10] [--rounds 1] [--json]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
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
try {
  for (const aggregation of values.aggregation.split(","))
    for (const gbits of values.gbits.split(","))
      for (const workers of counts) {
        namespaces.limit(gbits, BURST, QUEUE);
        const rounds = [];
        for (let round = 0; round < Number(values.rounds); round++) rounds.push(await measured(workers, aggregation));
        const [real, simulated] = [median(rounds), predicted(workers, aggregation, gbits)];
        const ratio = simulated / real;
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
} finally {
  namespaces.tearDown();
}
