/**
 * What a worker that joins costs the others: a run of one worker on this machine, a second one that joins in the middle, and
 * the longest step meanwhile over the median step before.
 *
 * usage: node tests/bench/join.mjs [--rounds 5] [-- FLAGS OF tandem coordinator]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
/** Steps looked at before the second worker is started, and after it has joined. */
const BEFORE = 30;
const AFTER = 10;

const { values, positionals } = parseArgs({
  options: { rounds: { type: "string", default: "5" } },
  allowPositionals: true,
});

/** @param {readonly string[]} args */
function start(args) {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: "ignore" });
}

/** @param {string} out @returns {readonly { kind: string, step: number, stepMs: number, time: string, control: string }[]} */
function eventsOf(out) {
  const path = join(out, "events.jsonl");
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** @param {string} out @param {(events: ReturnType<typeof eventsOf>) => boolean} isSo */
async function until(out, isSo) {
  while (!isSo(eventsOf(out))) await sleep(100);
}

async function round() {
  const out = join(mkdtempSync(join(tmpdir(), "tandem-join-")), "run");
  const flags = ["--listen", "tcp://127.0.0.1:*", "--steps", "100000", ...positionals, "--out", out];
  const coordinator = start(["coordinator", ...flags]);
  const isStep = ({ kind }) => kind === "step";
  await until(out, ([first]) => first !== undefined);
  const worker = () => start(["worker", "--connect", eventsOf(out)[0].control]);
  const workers = [worker()];
  await until(out, (events) => events.filter(isStep).length >= BEFORE + 5);
  workers.push(worker());
  const joined = (events) => events.findLastIndex(({ kind }) => kind === "worker-joined");
  const after = (events) => events.slice(joined(events)).filter(isStep).length;
  await until(
    out,
    (events) => events.filter(({ kind }) => kind === "worker-joined").length > 1 && after(events) > AFTER,
  );
  const events = eventsOf(out);
  coordinator.kill("SIGTERM");
  await Promise.all([coordinator, ...workers].map((child) => once(child, "exit")));
  rmSync(join(out, ".."), { recursive: true });

  const steps = events.filter(isStep);
  if (steps.some(({ step }, index) => step !== index + 1)) throw new Error("a step was computed twice, or left out");
  const at = joined(events);
  const usual = median(steps.slice(5, 5 + BEFORE).map(({ stepMs }) => stepMs));
  // The step that is open when the worker is admitted, and those after.
  const around = events.slice(at).filter(isStep).slice(0, AFTER);
  return {
    usual,
    longest: Math.max(...around.map(({ stepMs }) => stepMs)),
    later: median(around.map(({ stepMs }) => stepMs)),
  };
}

const ratios = [];
for (let i = 0; i < Number(values.rounds); i++) {
  const { usual, longest, later } = await round();
  ratios.push(longest / usual);
  const ms = (/** @type {number} */ value) => `${value.toFixed(0)} ms`;
  process.stdout.write(
    `a step took ${ms(usual)}; the longest of ${AFTER} around the join ${ms(longest)}, their median ${ms(later)}\n`,
  );
}
process.stdout.write(
  `longest step around a join over the median before: median ${median(ratios).toFixed(2)} of ${ratios.length} rounds\n`,
);
