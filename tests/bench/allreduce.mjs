/**
 * An exchange (`tandem bench exchange`) beside one all-reduce of as many floats by gloo, both in turn. An all-reduce leaves the
 * mean of the gradients at every process; an exchange also has made the optimizer's and the momentum update, and leaves θq and θk.
 *
 * usage: node tests/bench/allreduce.mjs --python PYTHON --peer FILE [--workers 2,4,8] [--params 25000000] [--rounds 5]
 *   [-- FLAGS OF tandem bench exchange]
 *   PYTHON has torch; FILE FLOATS PROCESSES prints {"median_ms": …} of one all-reduce among as many processes
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));

const { values, positionals } = parseArgs({
  options: {
    python: { type: "string" },
    peer: { type: "string" },
    workers: { type: "string", default: "2,4,8" },
    params: { type: "string", default: "25000000" },
    rounds: { type: "string", default: "5" },
  },
  allowPositionals: true,
});
const { python, peer, params } = values;
if (python === undefined || peer === undefined) {
  process.stderr.write("usage: node tests/bench/allreduce.mjs --python PYTHON --peer FILE [--workers 2,4,8]\n");
  process.exit(2);
}

for (const workers of values.workers.split(",")) {
  const ours = [];
  const theirs = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const flags = ["--workers", workers, "--params", params, "--json", ...positionals];
    ours.push(lastLine(process.execPath, [PROGRAM, "bench", "exchange", ...flags]).medianMs);
    theirs.push(lastLine(python, [peer, params, workers]).median_ms);
  }
  const ratio = median(ours.map((ms, round) => ms / theirs[round]));
  const shown = (/** @type {readonly number[]} */ all) => all.map((value) => value.toFixed(0)).join(", ");
  process.stdout.write(
    `${workers} workers: exchange ${shown(ours)} ms; gloo ${shown(theirs)} ms; ratio ${ratio.toFixed(2)}\n`,
  );
}
