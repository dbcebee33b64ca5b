/**
 * How well a linear classifier does on frozen features. What it is tuned by (L-BFGS: the penalty; SGD: the learning rate)
 * is chosen on a tenth of the training samples that is held out, never on the test samples.
 */
import { tf, tidied, type Tensor1D, type Tensor2D } from "../engine/index.js";
import type { LabelledFeatures } from "./knn.js";
import { balancedSubset, complement } from "./labelled-subset.js";
import type { Solver } from "./solvers.js";
import {
  accuracyOf,
  fitLbfgs,
  fitSgd,
  type Accuracy,
  type LabelledTensors,
  type LinearClassifier,
} from "./softmax-regression.js";

/** λ of the penalty on weights for standardised features, and SGD's peak learning rates. */
const CANDIDATES: Readonly<Record<Solver, readonly number[]>> = {
  lbfgs: [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
  sgd: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
};
const SGD_BATCH = 256;
/** Of the training samples. */
const HELD_OUT = 0.1;
/** Deviation below which a feature counts as constant. */
const LEAST_DEVIATION = 1e-6;

export interface ProbeOptions {
  readonly solver: Solver;
  readonly classes: number;
  readonly epochs: number;
  readonly seed: number;
  /** copies of the training samples, which follow one another in the same order; 1: none but themselves */
  readonly copies: number;
}

export interface ProbeResult extends Accuracy {
  /** λ, or the learning rate */
  readonly chosen: number;
  /** top-1 in [0, 1] on the held-out samples; null where there is only one sample of every class */
  readonly candidates: readonly { readonly value: number; readonly heldOut: number | null }[];
}

/**
 * Features are standardised by the training samples' means and deviations, as a batch norm without scale and shift in
 * front of the classifier does (He et al. 2022, "Masked Autoencoders", appendix A.1).
 */
export function linearProbe(train: LabelledFeatures, test: LabelledFeatures, options: ProbeOptions): ProbeResult {
  return tidied(() => {
    const { classes, seed, solver } = options;
    const raw = tensorsOf(train, classes);
    const { mean, variance } = tf.moments(raw.features, 0);
    const deviation = tf.maximum(tf.sqrt(variance), LEAST_DEVIATION);
    const standardised = (data: LabelledTensors): LabelledTensors => ({
      ...data,
      features: tf.div<Tensor2D>(tf.sub(data.features, mean), deviation),
    });
    const all = standardised(raw);
    const values = CANDIDATES[solver];
    const fit = (data: LabelledTensors, tried: readonly number[]): LinearClassifier[] =>
      solver === "lbfgs"
        ? tried.map((penalty) => fitLbfgs(data, penalty))
        : fitSgd(data, tried, { epochs: options.epochs, batchSize: SGD_BATCH, seed });
    // A sample is held out with all of its copies, and judged by the first.
    const samples = train.labels.length / options.copies;
    const held = balancedSubset(train.labels.slice(0, samples), HELD_OUT, seed);
    const kept = complement(held, samples);
    const keptRows = Int32Array.from({ length: kept.length * options.copies }, (_, row) => {
      return Math.floor(row / kept.length) * samples + kept[row % kept.length];
    });
    const isSplit = new Set(kept.map((position) => train.labels[position])).size === new Set(train.labels).size;
    const candidates = isSplit
      ? fit(rowsOf(all, keptRows), values).map((classifier, index) => ({
          value: values[index],
          heldOut: accuracyOf(classifier, rowsOf(all, held)).top1,
        }))
      : values.map((value) => ({ value, heldOut: null }));
    const best = isSplit ? bestOf(candidates) : values[Math.floor(values.length / 2)];
    const [classifier] = fit(all, [best]);
    return { ...accuracyOf(classifier, standardised(tensorsOf(test, classes))), chosen: best, candidates };
  });
}

/** Of equal ones the middle, which is farthest from the edges of the sweep. */
function bestOf(candidates: readonly { readonly value: number; readonly heldOut: number | null }[]): number {
  const most = Math.max(...candidates.map(({ heldOut }) => heldOut ?? 0));
  const equal = candidates.filter(({ heldOut }) => heldOut === most);
  return equal[Math.floor(equal.length / 2)].value;
}

function tensorsOf({ features, labels, dimension }: LabelledFeatures, classes: number): LabelledTensors {
  return {
    features: tf.tensor2d(features, [labels.length, dimension]),
    labels: tf.tensor1d(labels, "int32"),
    classes,
  };
}

function rowsOf({ features, labels, classes }: LabelledTensors, rows: Int32Array): LabelledTensors {
  const chosen: Tensor1D = tf.tensor1d(rows, "int32");
  return { features: tf.gather(features, chosen), labels: tf.gather(labels, chosen), classes };
}
