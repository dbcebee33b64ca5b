/** InfoNCE (van den Oord et al. 2018) against a queue of negatives: MoCo's equation 1. */
import { preciseMatMul, tf, type Scalar, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { hardestOf, type Contrast } from "./contrast.js";

/**
 * loss = mean over the batch of −log( exp(q·k⁺/τ) / (exp(q·k⁺/τ) + Σᵢ exp(q·kᵢ/τ)) )
 * @param queries `[B, D]` of unit length
 * @param keys `[B, D]` of unit length: the positive of each query
 * @param queue `[K, D]` of unit length: everyone's negatives
 * @param temperature τ
 */
export function infoNce(queries: Tensor2D, keys: Tensor2D, queue: Tensor2D, temperature: number): Contrast {
  const positive = tf.div<Tensor1D>(tf.sum(tf.mul(queries, keys), 1), temperature);
  const negatives = tf.div<Tensor2D>(preciseMatMul(queries, queue, false, true), temperature);
  const logits = tf.concat([tf.expandDims(positive, 1), negatives], 1);
  const loss = tf.mean<Scalar>(tf.sub(tf.logSumExp(logits, 1), positive));
  return { loss, positive, hardestNegative: hardestOf(negatives), meanNegative: tf.mean(negatives) };
}
