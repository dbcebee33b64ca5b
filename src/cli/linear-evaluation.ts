/** The work of `tandem evaluate linear`. Loads the engine. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { digestsOf } from "../checkpoint/index.js";
import type { Split } from "../data/index.js";
import {
  augmentedExtractor,
  encoderExtractor,
  extractFeatures,
  probeAugmentation,
  samplesOnly,
  type Extractor,
} from "../evaluation/extract.js";
import { frozenEncoder } from "../evaluation/features.js";
import { KeptRows } from "../evaluation/kept-rows.js";
import type { LabelledFeatures } from "../evaluation/knn.js";
import { balancedSubset } from "../evaluation/labelled-subset.js";
import { linearProbe, type ProbeResult } from "../evaluation/linear-probe.js";
import type { Solver } from "../evaluation/solvers.js";
import { encoderOf } from "../models/index.js";
import { SOFTWARE_VERSION } from "../protocol/version.js";
import { openClassified, trainingLabels } from "./classified-data.js";
import { encoderStateOf } from "./checkpoint-encoder.js";
import type { OpenedEvaluation } from "./evaluation-options.js";
import { warn } from "./run-display.js";

export interface LinearRequest {
  readonly solver: Solver;
  readonly epochs: number;
  readonly seed: number;
  /** of the training samples, in (0, 1] */
  readonly share: number;
  /** augmented copies of the training samples, images or texts */
  readonly copies: number;
  /** folder that features are kept in, so that an evaluation that was cut off goes on; null: none */
  readonly keep: string | null;
}

export interface LinearResult extends ProbeResult {
  /** labelled samples, without copies */
  readonly train: number;
  readonly test: number;
}

export async function evaluateLinear(
  { path, checkpoint, spec, maxTrain, maxTest }: OpenedEvaluation,
  { solver, epochs, seed, share, copies, keep }: LinearRequest,
): Promise<LinearResult> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  const frozen = frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, "query", path));
  const whole = await openClassified(spec, config);
  const chosen = balancedSubset(trainingLabels(whole, maxTrain), share, seed);
  const dataset = samplesOnly(whole, "train", chosen);
  const centre = encoderExtractor(frozen, config);
  const augmentation = probeAugmentation(config.augmentation);
  // All that the features depend on: whatever changes, changes the file that they are kept in.
  const of = () => {
    const { query, buffers } = digestsOf(checkpoint.groups);
    const source = { manifest: whole.manifestHash, share, seed, maxTrain, maxTest, augmentation };
    return { version: SOFTWARE_VERSION, model: config.model, data: config.data, weights: [query, buffers], ...source };
  };
  const identity = keep === null ? null : sha256Of(of());
  const extract = async (name: string, extractor: Extractor, split: Split, most: number) => {
    const path = keep === null ? null : join(keep, `features-${sha256Of({ identity, name }).slice(0, 32)}`);
    const kept = path === null ? null : await KeptRows.open(path, extractor.dimension);
    try {
      return await extractFeatures(extractor, dataset, split, most, warn, kept);
    } finally {
      await kept?.close();
    }
  };
  const parts = [await extract("train", centre, "train", Infinity)];
  for (let copy = 0; copy < copies; copy++) {
    const views = { what: "features", seed, epoch: copy, view: 0 } as const;
    const extractor = augmentedExtractor(frozen, config, { augmentation, ...views }, dataset, "train");
    parts.push(await extract(`train-${copy}`, extractor, "train", Infinity));
  }
  const test = await extract("test", centre, "test", maxTest);
  const classes = dataset.classes.length;
  const result = linearProbe(joined(parts), test, { solver, classes, epochs, seed, copies: parts.length });
  return { ...result, train: chosen.length, test: test.labels.length };
}

function sha256Of(value: Readonly<Record<string, unknown>>): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

function joined(parts: readonly LabelledFeatures[]): LabelledFeatures {
  const [{ dimension, labels: first }] = parts;
  const features = new Float32Array(parts.length * first.length * dimension);
  const labels = new Int32Array(parts.length * first.length);
  parts.forEach((part, copy) => {
    features.set(part.features, copy * part.features.length);
    labels.set(part.labels, copy * first.length);
  });
  return { features, labels, dimension };
}
