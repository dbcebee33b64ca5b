/** Embeddings that travel with their labels, as a last column: rows of the queue, and what ranks show each other. */
import { tf, type Tensor1D, type Tensor2D } from "../engine/index.js";

export interface LabelledQueue {
  /** `[K, D]` of unit length */
  readonly keys: Tensor2D;
  /** float32 `[K]` */
  readonly labels: Tensor1D;
}

/** Rows of a queue with labels, as keys and labels. @param rows `[n, D + 1]` */
export function splitLabels(rows: Tensor2D): LabelledQueue {
  const [count, width] = rows.shape;
  return {
    keys: tf.slice(rows, [0, 0], [count, width - 1]),
    labels: tf.reshape(tf.slice(rows, [0, width - 1], [count, 1]), [count]),
  };
}

/** @param keys `[n, D]` @param labels float32 `[n]` @returns `[n, D + 1]` */
export function withLabels(keys: Tensor2D, labels: Tensor1D): Tensor2D {
  return tf.concat([keys, tf.expandDims(labels, 1)], 1);
}
