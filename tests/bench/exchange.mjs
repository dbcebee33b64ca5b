/**
 * What ranks' telling each other something in the middle of a step costs: the same run without, with MoCo's shuffling across ranks, as
 * SimCLR (which also makes its forward pass twice), and either with SyncBN, all in turn; medians of the steps' times, and of their ratios
 * over the rounds.
 *
 * usage: node tests/bench/exchange.mjs [--rounds 3] [--steps 25] [--workers 2] [-- FLAGS OF tandem train]
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
/** Steps that are not counted: engines warm up. */
const WARMUP = 5;
const VARIANTS = {
  "MoCo v2, no exchange": ["--method", "moco-v2", "--set", "moco.shuffle=none"],
  "MoCo v2, across-ranks": ["--method", "moco-v2", "--set", "moco.shuffle=across-ranks"],
  "MoCo v2, SyncBN": ["--method", "moco-v2", "--set", "moco.shuffle=none", "--set", "model.syncBatchNorm=true"],
  SimCLR: ["--method", "simclr"],
  "SimCLR, all ranks held": ["--method", "simclr", "--set", "engine.heldRanks=4"],
  "SimCLR, SyncBN": ["--method", "simclr", "--set", "model.syncBatchNorm=true"],
};
const [PLAIN] = Object.keys(VARIANTS);

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "25" },
    workers: { type: "string", default: "2" },
  },
  allowPositionals: true,
});
const { rounds, steps, workers } = values;
const given = ["--preset", "cifar10", "--data", "synthetic:train=4000,test=10", "--encoder", "resnet-tiny"];
const size = ["--world-size", "4", "--batch", "32", "--steps", steps, "--workers", workers];
const quiet = ["--set", "evaluation.everyEpochs=0", "--set", "checkpoint.everySteps=0"];

/** @param {readonly string[]} flags @returns {number} median time of a step, in ms */
function stepMs(flags) {
  const folder = mkdtempSync(join(tmpdir(), "tandem-exchange-"));
  const out = join(folder, "run");
  const args = ["train", ...given, ...size, ...quiet, ...flags, ...positionals, "--out", out];
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const events = readFileSync(join(out, "events.jsonl"), "utf8").trim().split("\n");
  rmSync(folder, { recursive: true });
  const times = events.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "step");
  return median(times.slice(WARMUP).map((step) => step.stepMs));
}

/** @type {Map<string, number[]>} */
const measured = new Map(Object.keys(VARIANTS).map((name) => [name, []]));
for (let round = 0; round < Number(rounds); round++) {
  for (const [name, flags] of Object.entries(VARIANTS)) measured.get(name)?.push(stepMs(flags));
}
const plain = measured.get(PLAIN) ?? [];
for (const [name, times] of measured) {
  const ratio = median(times.map((ms, round) => ms / plain[round]));
  process.stdout.write(`${name.padEnd(22)} ${median(times).toFixed(0).padStart(5)} ms a step (${ratio.toFixed(2)})\n`);
}
