/**
 * The same MoCo step in Tandem and in PyTorch, both sides in turn, medians of several runs.
 *
 * usage: node tests/bench/peer.mjs --python PYTHON --data DIR [--rounds 3] [--threads 2] [--only resnet18-bf16]
 *   PYTHON has torch, torchvision, numpy and pillow; DIR is CIFAR-10 as DIR/train/<class>/*.jpg and DIR/test/…
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lastLine } from "./last-line.mjs";
import { median } from "./median.mjs";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const PEER = fileURLToPath(new URL("moco_ddp.py", import.meta.url));

const CASES = [
  { name: "resnet18-fp32", encoder: "resnet18", peer: "resnet18", batch: 64, precision: "fp32" },
  { name: "resnet18-bf16", encoder: "resnet18", peer: "resnet18", batch: 64, precision: "bf16" },
  { name: "resnet-tiny-fp32", encoder: "resnet-tiny", peer: "tiny", batch: 256, precision: "fp32" },
  { name: "resnet-tiny-bf16", encoder: "resnet-tiny", peer: "tiny", batch: 256, precision: "bf16" },
];

const { values } = parseArgs({
  options: {
    python: { type: "string" },
    data: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    only: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help || values.python === undefined || values.data === undefined) {
  process.stderr.write(
    "usage: node tests/bench/peer.mjs --python PYTHON --data DIR [--rounds 3] [--threads 2] [--only CASE]\n",
  );
  process.exit(2);
}

const { threads } = values;
for (const { name, encoder, peer, batch, precision } of CASES) {
  if (values.only !== undefined && values.only !== name) continue;
  const ours = [];
  const theirs = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const step = ["bench", "step", "--encoder", encoder, "--batch", `${batch}`, "--threads", threads];
    const same = ["--precision", precision, "--set", "model.head=linear", "--json"];
    ours.push(lastLine(process.execPath, [PROGRAM, ...step, ...same]).imagesPerSecond);
    const shared = [
      "--data",
      values.data,
      "--encoder",
      peer,
      "--batch",
      `${batch}`,
      "--threads",
      threads,
      "--steps",
      "10",
    ];
    theirs.push(lastLine(values.python, [PEER, ...shared, ...(precision === "bf16" ? ["--bf16"] : [])]).images_per_s);
  }
  const shown = (/** @type {readonly number[]} */ all) => all.map((value) => value.toFixed(1)).join(", ");
  const ratio = median(ours) / median(theirs);
  process.stdout.write(
    `${name}: Tandem ${shown(ours)}; PyTorch ${shown(theirs)} images/s; ratio of medians ${ratio.toFixed(2)}\n`,
  );
}
