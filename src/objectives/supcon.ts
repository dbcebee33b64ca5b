/**
 * Supervised contrast (Khosla et al. 2020): the positives of a query are all samples of its class. Over the global batch, as the
 * paper has it; or with MoCo's queue, where they are its own key and all keys of its class in the queue.
 */
import { preciseMatMul, tf, type Scalar, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { hardestOf, onlyWhere, type Contrast } from "./contrast.js";
import { contrastOf, inBatch, pairsOf } from "./in-batch.js";
import { splitLabels, type LabelledQueue } from "./labelled-rows.js";
import { momentumContrast } from "./moco.js";
import { given, type Objective } from "./objective.js";

/** @param temperature τ; 0.1 in the paper @param form equation 2 (`out`) or 3 (`in`) */
export function supCon(temperature: number, form: "out" | "in"): Objective {
  return inBatch((embeddings, labels, batch) =>
    supConOfBatch(embeddings, given(labels, "labels"), batch, temperature, form),
  );
}

export function supConWithQueue(temperature: number, form: "out" | "in"): Objective {
  return momentumContrast(({ queue, labels }) => {
    const labelled = splitLabels(given(queue, "a queue"));
    const own = given(labels, "labels");
    return (queries, keys) => supConOfQueue(queries, keys, own, labelled, temperature, form);
  });
}

/** Equations 2 (`out`) and 3 (`in`): the positives of a row are all other rows of its class. @param labels float32 `[N]` */
export function supConOfBatch(
  embeddings: Tensor2D,
  labels: Tensor1D,
  batch: number,
  temperature: number,
  form: "out" | "in",
): Contrast {
  const pairs = pairsOf(embeddings, batch, temperature);
  const isSame = tf.cast(tf.equal(tf.expandDims(labels, 1), tf.expandDims(labels, 0)), "float32");
  const isPositive = tf.sub<Tensor2D>(isSame, pairs.isSelf);
  return contrastOf(supConLoss(pairs.logits, isPositive, form), pairs, isPositive);
}

/**
 * `out` is equation 2, L_out: the mean over a query's positives p of −log( exp(q·p/τ) / Σₐ exp(q·a/τ) ), a over its own key and
 * the whole queue. `in` is equation 3, L_in: −log of the mean over p of that share. Means over the batch.
 * @param queries `[B, D]` of unit length
 * @param keys `[B, D]` of unit length: each query's own
 * @param labels float32 `[B]`
 * @param temperature τ
 */
export function supConOfQueue(
  queries: Tensor2D,
  keys: Tensor2D,
  labels: Tensor1D,
  queue: LabelledQueue,
  temperature: number,
  form: "out" | "in",
): Contrast {
  const own = tf.div<Tensor1D>(tf.sum(tf.mul(queries, keys), 1), temperature);
  const others = tf.div<Tensor2D>(preciseMatMul(queries, queue.keys, false, true), temperature);
  const isSame = tf.cast<Tensor2D>(tf.equal(tf.expandDims(labels, 1), tf.expandDims(queue.labels, 0)), "float32");
  const logits = tf.concat<Tensor2D>([tf.expandDims(own, 1), others], 1);
  const isPositive = tf.concat<Tensor2D>([tf.onesLike(tf.expandDims(own, 1)), isSame], 1);
  const isNegative: Tensor2D = tf.sub(1, isSame);
  return {
    loss: supConLoss(logits, isPositive, form),
    positive: own,
    hardestNegative: hardestOf(onlyWhere(others, isNegative)),
    meanNegative: tf.div(tf.sum(tf.mul(others, isNegative)), tf.maximum(tf.sum(isNegative), 1)),
  };
}

/**
 * The mean over rows of equation 2 or 3.
 * @param logits `[n, m]`: a row's pairs, over τ @param isPositive `[n, m]`: 1 for its positives, of which it has one at least
 */
export function supConLoss(logits: Tensor2D, isPositive: Tensor2D, form: "out" | "in"): Scalar {
  const positives = tf.sum(isPositive, 1);
  const all = tf.logSumExp(logits, 1);
  if (form === "out") return tf.mean(tf.sub(all, tf.div(tf.sum(tf.mul(logits, isPositive), 1), positives)));
  return tf.mean(tf.sub(tf.add(all, tf.log(positives)), tf.logSumExp(onlyWhere(logits, isPositive), 1)));
}
