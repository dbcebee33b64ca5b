/**
 * MoCo v3 (Chen, Xie and He 2021, Algorithm 1), the part of one logical rank: no queue; the negatives of a query are the keys
 * of all other samples of the global batch, which the ranks show each other. Queries pass a prediction head, and the loss is
 * symmetric: ctr(q₁, k₂) + ctr(q₂, k₁), each 2τ · InfoNCE.
 */
import { preciseMatMul, tf, type Tensor2D, type Tensor3D } from "../engine/index.js";
import type { BatchNormScope } from "../models/index.js";
import { hardestOf, onlyWhere, type Contrast } from "./contrast.js";
import { given, type Objective, type ShowInput } from "./objective.js";
import { bothViews, differentiate, encode, Statistics, type Exchanged, type Shown } from "./rank.js";

export function mocoV3(temperature: number): Objective {
  return {
    show: keysOf,
    step: (input) => {
      const exchanged = given(input.exchanged, "the exchange");
      const encoding = { batchNorm: viewsApart(input.batchNorm), predicts: true };
      const contrast = (queries: Tensor2D) => symmetric(queries, exchanged, temperature);
      return { ...differentiate(input, bothViews(input), encoding, contrast), keys: null, keyStatistics: [] };
    },
  };
}

function viewsApart({ splits, ranks }: BatchNormScope): BatchNormScope {
  return { splits: 2 * splits, ranks };
}

/** `[2B, D]` keys: of all first views, then of all second ones; batch norm sees either apart. No gradient. */
function keysOf(input: ShowInput): Shown {
  const { encoder, key } = input;
  const encoding = { batchNorm: viewsApart(input.batchNorm) };
  const statistics = new Statistics();
  const embeddings = tf.tidy(() => encode(encoder, key, bothViews(input), encoding, statistics.sink));
  return { embeddings, statistics: statistics.ordered(encoder) };
}

/** @param queries `[2B, D]`: of the first views, then of the second ones */
function symmetric(queries: Tensor2D, { block, own }: Exchanged, temperature: number): Contrast {
  const [ranks] = own.shape;
  const [rows, dimension] = block.shape;
  const batch = rows / ranks / 2;
  const byRank = tf.reshape(block, [ranks, 2, batch, dimension]);
  const keysOf = (view: number) =>
    tf.reshape(tf.slice(byRank, [0, view, 0, 0], [ranks, 1, batch, dimension]), [-1, dimension]);
  const isOwn = tf.reshape(own, [ranks, 1, 1]);
  const half = (view: number) => {
    const mine = tf.slice(queries, [view * batch, 0], [batch, dimension]);
    const keys = keysOf(1 - view) as Tensor2D;
    const positiveKeys = tf.sum(tf.mul(tf.reshape(keys, [ranks, batch, dimension]), isOwn), 0);
    const positive = tf.div(tf.sum(tf.mul(mine, positiveKeys), 1), temperature);
    const logits = tf.div<Tensor2D>(preciseMatMul(mine, keys, false, true), temperature);
    // The positive of row i is column i of this rank's block.
    const isPositive = tf.reshape(tf.transpose(tf.mul<Tensor3D>(isOwn, tf.expandDims(tf.eye(batch), 0)), [1, 0, 2]), [
      batch,
      -1,
    ]);
    const loss = tf.mul(tf.mean(tf.sub(tf.logSumExp(logits, 1), positive)), 2 * temperature);
    const negatives = tf.mul(logits, tf.sub(1, isPositive));
    return {
      loss,
      positive,
      hardest: hardestOf(onlyWhere(logits, tf.sub(1, isPositive))),
      meanNegative: tf.div(tf.sum(negatives), batch * Math.max(1, ranks * batch - 1)),
    };
  };
  const [first, second] = [half(0), half(1)];
  return {
    loss: tf.add(first.loss, second.loss),
    positive: tf.concat([first.positive, second.positive]) as Contrast["positive"],
    hardestNegative: tf.concat([first.hardest, second.hardest]),
    meanNegative: tf.div(tf.add(first.meanNegative, second.meanNegative), 2),
  };
}
