/**
 * Tandem's loader and torchvision's on the same files, both sides in turn, medians of several runs.
 *
 * usage: node tests/bench/loader.mjs --python PYTHON --data DIR [--rounds 3] [--threads 2] [--images 2000]
 *   PYTHON has torch, torchvision and pillow; DIR holds images, with or without class folders
 *
 * Not quite the same work: torchvision cuts the crop from the whole picture and scales it to 224. Tandem scales the picture to
 * data.decodeSize (256), and the device cuts both views from that as part of the step, which is not counted here.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const PEER = fileURLToPath(new URL("loader_torchvision.py", import.meta.url));

const { values } = parseArgs({
  options: {
    python: { type: "string" },
    data: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    images: { type: "string", default: "2000" },
  },
});
const { python, data, rounds, threads, images } = values;
if (python === undefined || data === undefined) {
  process.stderr.write("usage: node tests/bench/loader.mjs --python PYTHON --data DIR [--rounds 3] [--threads 2]\n");
  process.exit(2);
}

const shared = ["--images", images];
const ours = [];
const theirs = [];
for (let round = 0; round < Number(rounds); round++) {
  const bench = ["bench", "loader", "--data", `folder:${data}`, "--threads", threads, "--json"];
  ours.push(lastLine(process.execPath, [PROGRAM, ...bench, ...shared]).imagesPerSecond);
  theirs.push(lastLine(python, [PEER, "--data", data, "--workers", threads, ...shared]).imagesPerSecond);
}
const ratio = median(ours.map((value, round) => value / theirs[round]));
process.stdout.write(
  `${threads} threads: Tandem ${median(ours).toFixed(1)} images/s, torchvision ${median(theirs).toFixed(1)}; ` +
    `ratio ${ratio.toFixed(2)} (median of ${rounds} rounds)\n`,
);
