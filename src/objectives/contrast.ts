/** What contrastive losses have in common. */
import { tf, type Scalar, type Tensor, type Tensor1D, type Tensor2D } from "../engine/index.js";

/** What a contrastive loss gives; similarities are cosines over τ. */
export interface Contrast {
  /** mean over the batch */
  readonly loss: Scalar;
  /** `[B]` q·k⁺ / τ, of each query's own key */
  readonly positive: Tensor1D;
  /** `[B]` the largest q·k⁻ / τ */
  readonly hardestNegative: Tensor1D;
  /** mean of q·k⁻ / τ over all pairs */
  readonly meanNegative: Scalar;
}

/** Added to a logit that does not count: its share of a softmax is 0 in float32. */
const EXCLUDED = -1e9;

/** @param mask 1 where a logit counts, 0 where it does not */
export function onlyWhere(logits: Tensor2D, mask: Tensor2D): Tensor2D {
  return tf.add(logits, tf.mul(tf.sub(1, mask), EXCLUDED));
}

/** Rows of unit length (L2). `[B, D]` */
export function normalise(x: Tensor2D): Tensor2D {
  // F.normalize of PyTorch divides by max(‖x‖, 1e-12); an embedding that short has no direction anyway.
  return tf.div(x, tf.maximum(tf.norm(x, 2, 1, true), 1e-12));
}

/** `[B]` the largest of each row of `[B, K]` */
export function hardestOf(negatives: Tensor2D): Tensor1D {
  return tf.max<Tensor>(negatives, 1) as Tensor1D;
}
