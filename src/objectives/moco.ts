/**
 * Momentum contrast (He et al. 2020, Algorithm 1), the part of one logical rank: keys with θk, queries with θq, a contrastive
 * loss between them and the queue, gradients of θq. The momentum update and the queue belong to the coordinator and its
 * aggregators.
 *
 * With shuffling BN across ranks (section 3.3) a rank computes the keys of other ranks' samples, and shows them; the keys of
 * its own samples come back with the exchange. No image moves: the permutation decides who loads which key views.
 */
import { gatherRows, tf, type Tensor2D } from "../engine/index.js";
import type { Contrast } from "./contrast.js";
import { infoNce } from "./infonce.js";
import { given, type Objective, type ShowInput, type StepInput } from "./objective.js";
import { differentiate, encode, Statistics, type Exchanged, type Shown } from "./rank.js";

/** v1: temperature 0.07 and a linear head; v2 (Chen et al. 2020): 0.2 and a two-layer head. The queue is K × D in both. */
export function moco(temperature: number): Objective {
  return momentumContrast(({ queue }) => {
    const negatives = given(queue, "a queue");
    return (queries, keys) => infoNce(queries, keys, negatives, temperature);
  });
}

/** @param contrastFor the loss of `[B, D]` queries and keys of unit length, for what a step has been given */
export function momentumContrast(
  contrastFor: (input: StepInput) => (queries: Tensor2D, keys: Tensor2D) => Contrast,
): Objective {
  return {
    show: (input) => keysOf(input, null),
    step: (input) => {
      const { exchanged, keyShuffle } = input;
      const { embeddings: keys, statistics } = exchanged === null ? keysOf(input, keyShuffle) : ownOf(exchanged);
      const contrast = contrastFor(input);
      const { queryViews, batchNorm } = input;
      const result = differentiate(input, queryViews, { batchNorm }, (queries) => contrast(queries, keys));
      return { ...result, keys, keyStatistics: statistics };
    },
  };
}

/** The keys of a rank's key views, no gradient. */
function keysOf({ encoder, key, keyViews, batchNorm }: ShowInput, keyShuffle: StepInput["keyShuffle"]): Shown {
  const statistics = new Statistics();
  const embeddings = tf.tidy(() => {
    const views = keyShuffle === null ? tf.clone(keyViews) : gatherRows(keyViews, keyShuffle.order);
    const shuffled = encode(encoder, key, views, { batchNorm }, statistics.sink);
    return keyShuffle === null ? shuffled : gatherRows(shuffled, keyShuffle.inverse);
  });
  return { embeddings, statistics: statistics.ordered(encoder) };
}

/** The keys of a rank's own samples, which others have computed. */
function ownOf({ block, rows }: Exchanged): Shown {
  return { embeddings: gatherRows(block, given(rows, "where its own keys are")), statistics: [] };
}
