/**
 * Alignment and uniformity (Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and
 * Uniformity on the Hypersphere", section 4.1) of embeddings of unit length. Of both, lower is better.
 */
import { tf, type Tensor2D } from "../engine/index.js";

/** Rows compared with all at a time: bounds the matrix of distances to this many rows. */
const ROWS_AT_A_TIME = 500;

/** α = 2: the mean of `‖x − y‖²` over positive pairs, row by row of `[N, D]` each, of unit length. */
export function alignment(left: Float32Array, right: Float32Array, dimension: number): number {
  let sum = 0;
  left.forEach((value, i) => (sum += (value - right[i]) ** 2));
  return sum / (left.length / dimension);
}

/**
 * t = 2: `log mean exp(−2‖x − y‖²)` over all pairs of different rows.
 * @param embeddings `[N, D]`, of unit length, N ≥ 2
 */
export function uniformity(embeddings: Float32Array, dimension: number): number {
  const count = embeddings.length / dimension;
  if (count < 2) throw new RangeError("uniformity needs at least two embeddings");
  let sum = 0;
  tf.tidy(() => {
    const all = tf.tensor2d(embeddings, [count, dimension]);
    for (let start = 0; start < count; start += ROWS_AT_A_TIME) {
      sum += tf.tidy(() => {
        const rows: Tensor2D = tf.slice(all, [start, 0], [Math.min(ROWS_AT_A_TIME, count - start), dimension]);
        // ‖x − y‖² = 2 − 2·xᵀy on the sphere.
        const kernels = tf.exp(tf.mul(tf.sub(tf.matMul(rows, all, false, true), 1), 4));
        return tf.sum(kernels).dataSync()[0];
      });
    }
  });
  // Each row with itself gave 1.
  return Math.log((sum - count) / (count * (count - 1)));
}
