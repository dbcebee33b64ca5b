/**
 * Decoupled contrastive learning (Yeh et al. 2022, equation 6): NT-Xent without the positive in its denominator, so that an
 * easy positive does not weaken what a row learns from its negatives.
 *
 *     npx tandem train --method ./examples/own-method.js --set moco.temperature=0.5
 *
 * A method is a file with
 *
 *     negatives   "batch": the embeddings of both views of the global batch, shown to each other by all ranks;
 *                 "queue": keys of past steps, by the key encoder
 *     labels      true where it learns from labels (false where it is left out)
 *     default     the loss, a function of tensors that gives a scalar. Nothing is read back, nothing drawn.
 *
 * With "batch" it is given
 *
 *     tf            tfjs, the one instance that there is: import none
 *     embeddings    [N, D] of unit length, N = 2·W·B
 *     isSelf        [N, N], 1 where a row meets itself
 *     isOther       [N, N], 1 where a row meets the other view of its sample: its positive
 *     labels        [N], or null
 *     temperature   τ, moco.temperature
 *
 * and with "queue": tf, queries and keys [B, D], queue [K, D], labels [B] and queueLabels [K] or null, temperature. The
 * gradient is Tandem's affair: over the global batch it is the one of one device that holds all of it, for any number of
 * ranks, and the trained weights are the same bits for any number of workers.
 */
export const negatives = "batch";

/** A logit so low that its share of a softmax is 0. */
const EXCLUDED = -1e9;

export default function decoupledContrast({ tf, embeddings, isSelf, isOther, temperature }) {
  const logits = tf.div(tf.matMul(embeddings, embeddings, false, true), temperature);
  const positive = tf.sum(tf.mul(logits, isOther), 1);
  const others = tf.add(logits, tf.mul(tf.add(isSelf, isOther), EXCLUDED));
  return tf.mean(tf.sub(tf.logSumExp(others, 1), positive));
}
