/**
 * SimCLR (Chen et al. 2020): the two views of a sample are alike, and unlike all others of the global batch. Section 2.1: two-layer
 * head, temperature 0.5 on CIFAR-10 (appendix B.9), 0.1 on ImageNet.
 */
import { tf, type Scalar, type Tensor2D } from "../engine/index.js";
import type { Contrast } from "./contrast.js";
import { contrastOf, inBatch, pairsOf } from "./in-batch.js";
import type { Objective } from "./objective.js";

export function simClr(temperature: number): Objective {
  return inBatch((embeddings, _, batch) => ntXent(embeddings, batch, temperature));
}

/** NT-Xent, equation 1: the mean over all 2·W·B rows i of −log( exp(zᵢ·zⱼ/τ) / Σ over k ≠ i of exp(zᵢ·zₖ/τ) ), j its other view. */
export function ntXent(embeddings: Tensor2D, batch: number, temperature: number): Contrast {
  const pairs = pairsOf(embeddings, batch, temperature);
  const positive = tf.sum(tf.mul(pairs.logits, pairs.isOther), 1);
  const loss = tf.mean<Scalar>(tf.sub(tf.logSumExp(pairs.logits, 1), positive));
  return contrastOf(loss, pairs, pairs.isOther);
}
