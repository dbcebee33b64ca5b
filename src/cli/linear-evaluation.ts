/** The work of `tandem evaluate linear`. Loads the engine. */
import {
  augmentedExtractor,
  encoderExtractor,
  extractFeatures,
  probeAugmentation,
  samplesOnly,
} from "../evaluation/extract.js";
import { frozenEncoder } from "../evaluation/features.js";
import type { LabelledFeatures } from "../evaluation/knn.js";
import { balancedSubset } from "../evaluation/labelled-subset.js";
import { linearProbe, type ProbeResult } from "../evaluation/linear-probe.js";
import type { Solver } from "../evaluation/solvers.js";
import { encoderOf } from "../models/index.js";
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
}

export interface LinearResult extends ProbeResult {
  /** labelled samples, without copies */
  readonly train: number;
  readonly test: number;
}

export async function evaluateLinear(
  { path, checkpoint, spec, maxTrain, maxTest }: OpenedEvaluation,
  { solver, epochs, seed, share, copies }: LinearRequest,
): Promise<LinearResult> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  const frozen = frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, "query", path));
  const whole = await openClassified(spec, config);
  const chosen = balancedSubset(trainingLabels(whole, maxTrain), share, seed);
  const dataset = samplesOnly(whole, "train", chosen);
  const centre = encoderExtractor(frozen, config);
  const augmentation = probeAugmentation(config.augmentation);
  const parts = [await extractFeatures(centre, dataset, "train", Infinity, warn)];
  for (let copy = 0; copy < copies; copy++) {
    const views = { what: "features", seed, epoch: copy, view: 0 } as const;
    const extractor = augmentedExtractor(frozen, config, { augmentation, ...views }, dataset, "train");
    parts.push(await extractFeatures(extractor, dataset, "train", Infinity, warn));
  }
  const test = await extractFeatures(centre, dataset, "test", maxTest, warn);
  const classes = dataset.classes.length;
  const result = linearProbe(joined(parts), test, { solver, classes, epochs, seed, copies: parts.length });
  return { ...result, train: chosen.length, test: test.labels.length };
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
