/**
 * Multinomial logistic regression: softmax of `x·W + b`, trained on frozen features by L-BFGS (as SimCLR's linear
 * evaluation and scikit-learn do) or by SGD (as MoCo's does).
 */
import { tf, tidied, type Tensor, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { epochPermutation } from "../data/permutation.js";
import { minimise, type Evaluated } from "../optim/lbfgs.js";

export interface LinearClassifier {
  readonly dimension: number;
  readonly classes: number;
  /** `[dimension, classes]`, row by row */
  readonly weights: Float32Array;
  /** `[classes]` */
  readonly biases: Float32Array;
}

/** On the device. */
export interface LabelledTensors {
  /** `[N, D]` */
  readonly features: Tensor2D;
  /** int32 `[N]` */
  readonly labels: Tensor1D;
  readonly classes: number;
}

/**
 * `mean(−log softmax(x·W + b)[label]) + λ/2·‖W‖²` and its gradient; biases are not penalised.
 * @param point `[(D + 1)·C]`: `W` row by row, then `b`
 * @param penalty λ
 */
export function softmaxLoss(
  { features, labels, classes }: LabelledTensors,
  point: Float64Array,
  penalty: number,
): Evaluated {
  const [count, dimension] = features.shape;
  const split = dimension * classes;
  const [loss, ofWeights, ofBiases] = tf.tidy(() => {
    const weights = tf.tensor2d(Float32Array.from(point.subarray(0, split)), [dimension, classes]);
    const logits = tf.add(tf.matMul(features, weights), tf.tensor1d(Float32Array.from(point.subarray(split))));
    const logProbabilities = tf.logSoftmax(logits);
    const targets = tf.oneHot(labels, classes).toFloat();
    const error = tf.div(tf.sub(tf.exp(logProbabilities), targets), count);
    const entropy = tf.neg(tf.mean(tf.sum(tf.mul(logProbabilities, targets), 1)));
    return [entropy, tf.matMul(features, error, true), tf.sum(error, 0)].map((tensor: Tensor) => tensor.dataSync());
  });
  const gradient = new Float64Array(point.length);
  gradient.set(ofWeights);
  gradient.set(ofBiases, split);
  let value = loss[0];
  for (let i = 0; i < split; i++) {
    value += (penalty / 2) * point[i] ** 2;
    gradient[i] += penalty * point[i];
  }
  return { value, gradient };
}

const LBFGS_ITERATIONS = 500;
/** Sums of float32 are not exact enough for less. */
const LBFGS_TOLERANCE = 1e-5;

/** The minimum of `softmaxLoss`, from zero. */
export function fitLbfgs(data: LabelledTensors, penalty: number): LinearClassifier {
  const dimension = data.features.shape[1];
  const start = new Float64Array((dimension + 1) * data.classes);
  const options = { iterations: LBFGS_ITERATIONS, tolerance: LBFGS_TOLERANCE };
  const { point } = minimise((at) => softmaxLoss(data, at, penalty), start, options);
  return {
    dimension,
    classes: data.classes,
    weights: Float32Array.from(point.subarray(0, dimension * data.classes)),
    biases: Float32Array.from(point.subarray(dimension * data.classes)),
  };
}

export interface SgdOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly seed: number;
}

const SGD_MOMENTUM = 0.9;

/**
 * SGD with momentum 0.9 from zero, cosine decay to 0, no weight decay. One classifier for each learning rate, all in one
 * pass: their weights lie side by side, so that a batch is one product of matrices for all.
 * @returns in the order of the rates
 */
export function fitSgd(data: LabelledTensors, rates: readonly number[], options: SgdOptions): LinearClassifier[] {
  const { features, labels, classes } = data;
  const [count, dimension] = features.shape;
  const { epochs, batchSize, seed } = options;
  const width = rates.length * classes;
  // Biases are weights of a feature that is always 1.
  const state: { readonly weights: Tensor2D; readonly velocity: Tensor2D } = {
    weights: tf.zeros([dimension + 1, width]),
    velocity: tf.zeros([dimension + 1, width]),
  };
  const rateOfColumn = tf.tensor1d(rates.flatMap((rate) => new Array<number>(classes).fill(rate)));
  const extended = tf.tidy(() => tf.concat<Tensor2D>([features, tf.ones([count, 1])], 1));
  const steps = Math.ceil(count / batchSize);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = epochPermutation(seed, epoch, count);
    for (let step = 0; step < steps; step++) {
      const rows = Int32Array.from(order.subarray(step * batchSize, (step + 1) * batchSize));
      const decay = 0.5 * (1 + Math.cos((Math.PI * (epoch * steps + step)) / (epochs * steps)));
      const next = tf.tidy(() => {
        const chosen = tf.tensor1d(rows, "int32");
        const batch = tf.gather(extended, chosen);
        const logits = tf.reshape(tf.matMul(batch, state.weights), [rows.length, rates.length, classes]);
        const targets = tf.expandDims(tf.oneHot(tf.gather(labels, chosen), classes).toFloat(), 1);
        const error = tf.reshape(tf.sub(tf.softmax(logits), targets), [rows.length, width]);
        const gradient = tf.matMul(batch, tf.div<Tensor2D>(error, rows.length), true);
        const velocity = tf.add<Tensor2D>(tf.mul(state.velocity, SGD_MOMENTUM), gradient);
        return { velocity, weights: tf.sub<Tensor2D>(state.weights, tf.mul(velocity, tf.mul(rateOfColumn, decay))) };
      });
      tf.dispose([state.weights, state.velocity]);
      Object.assign(state, next);
    }
  }
  const columns = state.weights.dataSync() as Float32Array;
  tf.dispose([state.weights, state.velocity, rateOfColumn, extended]);
  return rates.map((_, rate) => {
    const own = new Float32Array((dimension + 1) * classes);
    for (let row = 0; row <= dimension; row++) {
      const start = row * width + rate * classes;
      own.set(columns.subarray(start, start + classes), row * classes);
    }
    const split = dimension * classes;
    return { dimension, classes, weights: own.slice(0, split), biases: own.slice(split) };
  });
}

/** Shares in [0, 1] of samples whose class is the likeliest, and among the five likeliest. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
}

const FIVE = 5;

export function accuracyOf(classifier: LinearClassifier, { features, labels, classes }: LabelledTensors): Accuracy {
  return tidied(() => {
    const { dimension, weights, biases } = classifier;
    const products = tf.matMul(features, tf.tensor2d(weights, [dimension, classes]));
    const logits = tf.add<Tensor2D>(products, tf.tensor1d(biases));
    return accuracyOfLogits(logits, labels.dataSync() as Int32Array);
  });
}

/** @param logits `[N, C]` */
export function accuracyOfLogits(logits: Tensor2D, labels: Int32Array): Accuracy {
  const k = Math.min(FIVE, logits.shape[1]);
  const likeliest = tf.tidy(() => tf.topk(logits, k).indices.dataSync() as Int32Array);
  let [first, five] = [0, 0];
  labels.forEach((label, row) => {
    const rank = likeliest.subarray(row * k, (row + 1) * k).indexOf(label);
    if (rank === 0) first++;
    if (rank !== -1) five++;
  });
  return { top1: first / labels.length, top5: five / labels.length };
}
