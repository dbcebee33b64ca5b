/** InfoNCE (van den Oord et al. 2018) against a queue of negatives: MoCo's equation 1. */
import { preciseMatMul, tf, type Scalar, type Tensor1D, type Tensor2D } from "../engine/index.js";

export interface InfoNce {
  /** mean over the batch of −log( exp(q·k⁺/τ) / (exp(q·k⁺/τ) + Σᵢ exp(q·kᵢ/τ)) ) */
  readonly loss: Scalar;
  /** `[B]` q·k⁺ / τ */
  readonly positive: Tensor1D;
  /** `[B, K]` q·kᵢ / τ */
  readonly negatives: Tensor2D;
}

/** Rows of unit length (L2). `[B, D]` */
export function normalise(x: Tensor2D): Tensor2D {
  // F.normalize of PyTorch divides by max(‖x‖, 1e-12); an embedding that short has no direction anyway.
  return tf.div(x, tf.maximum(tf.norm(x, 2, 1, true), 1e-12));
}

/**
 * @param queries `[B, D]` of unit length
 * @param keys `[B, D]` of unit length: the positive of each query
 * @param queue `[K, D]` of unit length: everyone's negatives
 * @param temperature τ
 */
export function infoNce(queries: Tensor2D, keys: Tensor2D, queue: Tensor2D, temperature: number): InfoNce {
  const positive = tf.div<Tensor1D>(tf.sum(tf.mul(queries, keys), 1), temperature);
  const negatives = tf.div<Tensor2D>(preciseMatMul(queries, queue, false, true), temperature);
  const logits = tf.concat([tf.expandDims(positive, 1), negatives], 1);
  const loss = tf.mean<Scalar>(tf.sub(tf.logSumExp(logits, 1), positive));
  return { loss, positive, negatives };
}
