/**
 * Each method in Tandem and in PyTorch at the same settings (resnet-tiny, W = 4 ranks of 32, 20 epochs, bf16), and what kNN and a
 * linear probe make of the features of either side; one probe measures both. fp32 where the processor has no bfloat16.
 *
 * usage: node tests/bench/methods.mjs --python PYTHON --data DIR --out DIR [--only simclr] [--epochs 20] [--batch 32]
 *   [--precision bf16]
 *   PYTHON has torch, torchvision, numpy and pillow; --data is CIFAR-10, or a part of it, as DIR/train/<class>/*.jpg and DIR/test/…
 *   --out keeps what is done, so that a run that was cut off goes on
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const PEER = fileURLToPath(new URL("methods_peer.py", import.meta.url));

const CASES = [
  { name: "moco-v2", method: "moco-v2", peer: [], set: ["moco.shuffle=none"] },
  { name: "moco-v2-across-ranks", method: "moco-v2", peer: [], set: ["moco.shuffle=across-ranks"] },
  { name: "simclr", method: "simclr", peer: ["--tau", "0.5", "--lr", "0.12"], set: ["optimizer.learningRate=0.12"] },
  { name: "supcon", method: "supcon", peer: ["--lr", "0.12"], set: ["optimizer.learningRate=0.12"] },
];

const { values } = parseArgs({
  options: {
    python: { type: "string" },
    data: { type: "string" },
    out: { type: "string" },
    only: { type: "string" },
    epochs: { type: "string", default: "20" },
    batch: { type: "string", default: "32" },
    precision: { type: "string", default: "bf16" },
  },
});
const { python, data, out, only, epochs, batch, precision } = values;
if (python === undefined || data === undefined || out === undefined) {
  process.stderr.write("usage: node tests/bench/methods.mjs --python PYTHON --data DIR --out DIR [--only CASE]\n");
  process.exit(2);
}

/** @param {string} command @param {readonly string[]} args @returns {string} its output */
function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}

/** @param {string} path @returns {{ knn: number, linear: number }} in percent */
function probed(path) {
  return JSON.parse(run(python ?? "", [PEER, "--probe", path]));
}

mkdirSync(out, { recursive: true });
for (const { name, method, peer, set } of CASES) {
  if (only !== undefined && only !== name) continue;
  const place = join(out, name);
  const settings = [...set, "parallel.threads=1", "evaluation.everyEpochs=0", "checkpoint.everySteps=0"];
  const size = [
    "--encoder",
    "resnet-tiny",
    "--epochs",
    epochs,
    "--world-size",
    "4",
    "--batch",
    batch,
    "--workers",
    "2",
  ];
  const flags = [
    "--preset",
    "cifar10",
    "--method",
    method,
    "--data",
    `folder:${data}`,
    "--precision",
    precision,
    ...size,
  ];
  if (!existsSync(join(place, "test.npy"))) {
    const sets = settings.flatMap((value) => ["--set", value]);
    run(process.execPath, [PROGRAM, "train", ...flags, ...sets, "--out", join(place, "run")]);
    for (const split of ["train", "test"]) {
      const file = join(place, `${split}.npy`);
      run(process.execPath, [PROGRAM, "embed", "--checkpoint", join(place, "run"), "--split", split, "--out", file]);
    }
  }
  const theirs = join(place, "peer.npz");
  if (!existsSync(theirs)) {
    const same = ["--data", data, "--method", name, "--epochs", epochs, "--ranks", "4", "--batch", batch];
    const low = precision === "bf16" ? ["--bf16"] : [];
    run(python, [PEER, ...same, ...low, ...peer, "--out", theirs]);
  }
  const [tandem, pytorch] = [probed(place), probed(theirs)];
  console.log(
    `${name.padEnd(20)} kNN ${tandem.knn.toFixed(1)} (PyTorch ${pytorch.knn.toFixed(1)})  ` +
      `linear ${tandem.linear.toFixed(1)} (PyTorch ${pytorch.linear.toFixed(1)})`,
  );
}
