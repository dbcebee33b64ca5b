/**
 * The orchestration's ceiling: steps a second where ranks take no time at all (engine.mode = synthetic, 0 ms) and the model has 10,000
 * parameters, with real processes and sockets; and where a step's time goes. All of them share this machine's cores.
 *
 * usage: node tests/bench/ceiling.mjs [--workers 1,8,64] [--steps 6000,3000,800] [--rounds 3] [--json] [-- FLAGS OF tandem coordinator]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
/** Share of the steps that are not counted: processes warm up. */
const WARMUP = 0.25;
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

/** @param {string[]} args */
function start(args) {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", "pipe"] });
}

/** @param {number} workers @param {string} steps @returns {Promise<{ perSecond: number, stages: Record<string, number> }>} */
async function measure(workers, steps) {
  const folder = mkdtempSync(join(tmpdir(), "tandem-ceiling-"));
  const out = join(folder, "run");
  const config = ["--preset", "quickstart", "--batch", "2", "--set", "moco.queueSize=1024", "--steps", steps];
  const synthetic = ["--set", "engine.mode=synthetic", "--set", "engine.synthetic.parameters=10000"];
  const whole = ["--world-size", `${workers}`, "--set", `membership.minWorkers=${workers}`];
  const quiet = [
    "--set",
    "evaluation.everyEpochs=0",
    "--set",
    "checkpoint.everySteps=0",
    "--ui",
    "off",
    "--no-tensorboard",
  ];
  const where = ["--listen", "tcp://127.0.0.1:*", "--out", out];
  const run = start(["coordinator", ...config, ...synthetic, ...whole, ...quiet, ...positionals, ...where]);
  let stderr = "";
  const address = new Promise((resolve) => {
    run.stderr.on("data", (bytes) => {
      stderr += bytes;
      const found = /listening at (tcp:\S+)/.exec(stderr)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
  const ended = once(run, "close");
  const connect = await Promise.race([address, ended.then(() => Promise.reject(new Error(stderr)))]);
  const members = Array.from({ length: workers }, () => start(["worker", "--connect", connect, "--device", "cpu"]));
  for (const member of members) member.stderr.resume();
  const [code] = await ended;
  await Promise.all(members.map((member) => member.exitCode ?? once(member, "close")));
  if (code !== 0) throw new Error(stderr);
  const events = readFileSync(join(out, "events.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  rmSync(folder, { recursive: true });
  const done = events.filter(({ kind }) => kind === "step");
  const counted = done.slice(Math.floor(WARMUP * done.length));
  const ms = Date.parse(counted.at(-1).time) - Date.parse(counted[0].time);
  return {
    perSecond: (1000 * (counted.length - 1)) / ms,
    stages: shares(events.filter(({ kind }) => kind === "stages")),
  };
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
