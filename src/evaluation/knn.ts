/**
 * Weighted k-nearest neighbours on frozen features (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric
 * Instance Discrimination", section 3.4): each neighbour votes for its class with weight exp(similarity / τ).
 */
import { tf, type Tensor2D } from "../engine/index.js";

export interface LabelledFeatures {
  /** float32 `[count, dimension]`, of any length; cosine similarity is used */
  readonly features: Float32Array;
  /** `[count]`, each in [0, classes) */
  readonly labels: Int32Array;
  readonly dimension: number;
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
      const [similarities, neighbours] = tf.tidy(() => {
        const nearest = tf.topk(tf.matMul(unitRows(rows, test.dimension), bankFeatures, false, true), k);
        return [nearest.values.dataSync() as Float32Array, nearest.indices.dataSync() as Int32Array];
      });
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

function unitRows(features: Float32Array, dimension: number): Tensor2D {
  return tf.tidy(() => {
    const rows = tf.tensor2d(features, [features.length / dimension, dimension]);
    return tf.div(rows, tf.maximum(tf.norm(rows, 2, 1, true), 1e-12));
  });
}
