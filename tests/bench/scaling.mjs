/**
 * Weak scaling from one worker to several on one machine, each with one thread, beside PyTorch DDP over gloo, all in turn: images/s of the
 * whole over as many times one worker's. Medians of several rounds. "Apart" are as many runs of one worker each, at once, which exchange
 * nothing: what they lose is the machine's (memory, caches, clock), and no way of exchanging can save it.
 *
 * usage: node tests/bench/scaling.mjs --python PYTHON --peer FILE --data DIR [--workers 2] [--batch 32] [--rounds 3] [--steps 12] [-- FLAGS OF tandem train]
 *   PYTHON has torch, torchvision, numpy and pillow; FILE is the peer's program; DIR is CIFAR-10 as DIR/train/<class>/*.jpg and DIR/test/…
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
/** Steps that are not counted: engines warm up. */
const WARMUP = 4;

const { values, positionals } = parseArgs({
  options: {
    python: { type: "string" },
    peer: { type: "string" },
    data: { type: "string" },
    workers: { type: "string", default: "2" },
    batch: { type: "string", default: "32" },
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "12" },
  },
  allowPositionals: true,
});
const { python, peer, data, batch, steps } = values;
if (python === undefined || peer === undefined || data === undefined) {
  process.stderr.write("usage: node tests/bench/scaling.mjs --python PYTHON --peer FILE --data DIR\n");
  process.exit(2);
}
const counts = [1, Number(values.workers)];

/** @param {number} workers @returns {Promise<number>} images/s */
async function ours(workers) {
  const folder = mkdtempSync(join(tmpdir(), "tandem-scaling-"));
  const out = join(folder, "run");
  const size = ["--world-size", `${workers}`, "--workers", `${workers}`, "--batch", `${batch}`, "--steps", `${steps}`];
  const same = ["--preset", "cifar10", "--encoder", "resnet18", "--set", "model.head=linear", "--precision", "fp32"];
  const quiet = ["--set", "evaluation.everyEpochs=0", "--set", "checkpoint.everySteps=0", "--data", `folder:${data}`];
  const args = ["train", ...same, ...size, ...quiet, ...positionals, "--out", out];
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (bytes) => (stderr += bytes));
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(stderr);
  const events = readFileSync(join(out, "events.jsonl"), "utf8").trim().split("\n");
  rmSync(folder, { recursive: true });
  const times = events.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "step");
  return (1000 * workers * Number(batch)) / median(times.slice(WARMUP).map((step) => step.stepMs));
}

/** @param {number} runs of one worker each, at once @returns {Promise<number>} images/s of all */
async function apart(runs) {
  const speeds = await Promise.all(Array.from({ length: runs }, () => ours(1)));
  return speeds.reduce((sum, speed) => sum + speed, 0);
}

/** @param {number} workers @returns {number} images/s */
function theirs(workers) {
  const size = [
    "--world",
    `${workers}`,
    "--threads",
    "1",
    "--batch",
    `${batch}`,
    "--steps",
    `${Number(steps) - WARMUP}`,
  ];
  const rest = ["--encoder", "resnet18", "--data", `${data}`, "--warmup", `${WARMUP}`, "--train-limit", "2000"];
  return lastLine(`${python}`, [`${peer}`, ...size, ...rest, "--test-limit", "100"]).images_per_s;
}

const sides = { "PyTorch DDP": theirs, Tandem: ours, apart };
/** @type {Record<string, number[][]>} images/s, by round, for each count */
const measured = { "PyTorch DDP": [], Tandem: [], apart: [] };
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, measure] of Object.entries(sides)) {
    const speeds = [];
    for (const count of counts) speeds.push(await measure(count));
    measured[name].push(speeds);
  }
}
for (const [name, rounds] of Object.entries(measured)) {
  const speeds = counts.map((_, index) => median(rounds.map((round) => round[index])));
  const efficiency = median(rounds.map(([one, all]) => all / (counts[1] * one)));
  const shown = counts.map((count, index) => `${count}: ${speeds[index].toFixed(1)} images/s`).join(", ");
  process.stdout.write(`${name.padEnd(12)} ${shown}; efficiency ${(100 * efficiency).toFixed(1)}%\n`);
}
