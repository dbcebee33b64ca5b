/**
 * Weighted k-nearest neighbours on frozen features (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric
 * Instance Discrimination", section 3.4): each neighbour votes for its class with weight exp(similarity / τ).
 */
import { tf, tidied, type Tensor2D } from "../engine/index.js";

export interface LabelledFeatures {
  /** float32 `[count, dimension]`, of any length; cosine similarity is used */
  readonly features: Float32Array;
  /** `[count]`, each in [0, classes) */
  readonly labels: Int32Array;
  readonly dimension: number;
}

/** A sample of the bank, as seen from one of the test set. */
export interface Neighbour {
  /** its number in the bank */
  readonly sample: number;
  /** cosine, −1 to 1 */
  readonly similarity: number;
}

export interface Neighbourhood {
  /** number in the test set */
  readonly sample: number;
  /** the nearest first */
  readonly neighbours: readonly Neighbour[];
}

export interface KnnOptions {
  readonly neighbours: number;
  readonly temperature: number;
  readonly classes: number;
}

/** Test samples compared with the bank at a time: bounds the similarity matrix to this many rows. */
const ROWS_AT_A_TIME = 500;

/**
 * @returns top-1 accuracy in [0, 1]
 * @throws RangeError where the bank or the test set is empty
 */
export function knnAccuracy(bank: LabelledFeatures, test: LabelledFeatures, options: KnnOptions): number {
  if (bank.labels.length === 0 || test.labels.length === 0) {
    throw new RangeError("kNN needs at least one labelled sample in the bank and one in the test set");
  }
  const k = Math.min(options.neighbours, bank.labels.length);
  let correct = 0;
  tf.tidy(() => {
    const bankFeatures = unitRows(bank.features, bank.dimension);
    for (let start = 0; start < test.labels.length; start += ROWS_AT_A_TIME) {
      const count = Math.min(ROWS_AT_A_TIME, test.labels.length - start);
      const rows = test.features.subarray(start * test.dimension, (start + count) * test.dimension);
      const { similarities, neighbours } = nearest(rows, bankFeatures, k);
      for (let row = 0; row < count; row++) {
        const votes = new Float64Array(options.classes);
        for (let i = row * k; i < (row + 1) * k; i++) {
          const label = bank.labels[neighbours[i]];
          votes[label] = votes[label] + Math.exp(similarities[i] / options.temperature);
        }
        if (votes.indexOf(Math.max(...votes)) === test.labels[start + row]) correct++;
      }
    }
  });
  return correct / test.labels.length;
}

/**
 * @param samples of the test set
 * @param count neighbours of each; all there are where the bank has fewer
 */
export function neighbourhoods(
  bank: LabelledFeatures,
  test: LabelledFeatures,
  samples: readonly number[],
  count: number,
): Neighbourhood[] {
  const { dimension } = test;
  const rows = new Float32Array(samples.length * dimension);
  samples.forEach((sample, row) => {
    rows.set(test.features.subarray(sample * dimension, (sample + 1) * dimension), row * dimension);
  });
  const k = Math.min(count, bank.labels.length);
  return tidied(() => {
    const { similarities, neighbours } = nearest(rows, unitRows(bank.features, dimension), k);
    const neighbour = (place: number): Neighbour => ({ sample: neighbours[place], similarity: similarities[place] });
    return samples.map((sample, row) => ({
      sample,
      neighbours: Array.from({ length: k }, (_, rank) => neighbour(row * k + rank)),
    }));
  });
}

/** @param rows float32 `[N, dimension]` @param bank of unit length @returns of each row the k nearest, the nearest first, `[N, k]` */
function nearest(
  rows: Float32Array,
  bank: Tensor2D,
  k: number,
): { readonly similarities: Float32Array; readonly neighbours: Int32Array } {
  return tidied(() => {
    const { values, indices } = tf.topk(tf.matMul(unitRows(rows, bank.shape[1]), bank, false, true), k);
    return { similarities: values.dataSync() as Float32Array, neighbours: indices.dataSync() as Int32Array };
  });
}

function unitRows(features: Float32Array, dimension: number): Tensor2D {
  return tf.tidy(() => {
    const rows = tf.tensor2d(features, [features.length / dimension, dimension]);
    return tf.div(rows, tf.maximum(tf.norm(rows, 2, 1, true), 1e-12));
  });
}
