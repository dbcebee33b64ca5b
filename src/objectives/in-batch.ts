/**
 * Methods whose loss is of the whole global batch, as if one device held it: SimCLR (Chen et al. 2020) and SupCon (Khosla et
 * al. 2020), the part of one logical rank. The ranks show each other the embeddings of both views of their samples; then each
 * computes the loss of all with its own rows live, so its gradient includes what its embeddings do to the other ranks' terms,
 * and the sum over the ranks is the one-device gradient. The forward pass is made twice, and no activation waits for the
 * exchange (the gradient cache of Gao et al. 2021).
 */
import { preciseMatMul, tf, type Scalar, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { hardestOf, onlyWhere, type Contrast } from "./contrast.js";
import { splitLabels, withLabels } from "./labelled-rows.js";
import { given, type Objective, type ShowInput, type StepInput } from "./objective.js";
import { bothViews, differentiate, encode, Statistics, type Shown, type StepResult } from "./rank.js";

/**
 * @param contrast the loss of `[N, D]` embeddings, N = 2·W·B, of each rank the first views, then the second ones; float32 `[N]`
 *   labels, or null where the method uses none
 */
export function inBatch(
  contrast: (embeddings: Tensor2D, labels: Tensor1D | null, batch: number) => Contrast,
): Objective {
  return { show: embeddingsOf, step: (input) => stepOf(input, contrast) };
}

/** `[2B, D]`, or `[2B, D + 1]` with labels: of the first views, then of the second ones */
function embeddingsOf(input: ShowInput): Shown {
  const statistics = new Statistics();
  const { encoder, query, batchNorm, labels } = input;
  const embeddings = tf.tidy(() => {
    const rows = encode(encoder, query, bothViews(input), { batchNorm }, statistics.sink);
    return labels === null ? rows : withLabels(rows, tf.concat<Tensor1D>([labels, labels]));
  });
  tf.dispose(statistics.ordered(encoder));
  return { embeddings, statistics: [] };
}

function stepOf(input: StepInput, contrast: Parameters<typeof inBatch>[0]): StepResult {
  const exchanged = given(input.exchanged, "the exchange");
  const { own } = exchanged;
  const [ranks] = own.shape;
  const batch = exchanged.block.shape[0] / ranks / 2;
  const isLabelled = input.labels !== null;
  const { keys: block, labels } = isLabelled ? splitLabels(exchanged.block) : { keys: exchanged.block, labels: null };
  const dimension = block.shape[1];
  const isOwn = tf.reshape(own, [ranks, 1, 1]);
  const others = tf.mul(tf.reshape(block, [ranks, 2 * batch, dimension]), tf.sub(1, isOwn));
  const all = (mine: Tensor2D): Tensor2D =>
    tf.reshape(tf.add(others, tf.mul(isOwn, tf.expandDims(mine, 0))), [ranks * 2 * batch, dimension]);
  const result = differentiate(
    input,
    bothViews(input),
    { batchNorm: input.batchNorm },
    (mine) => contrast(all(mine), labels, batch),
    ranks,
  );
  return { ...result, keys: null, keyStatistics: [] };
}

export interface Pairs {
  /** `[N, N]` z·z′/τ, the pairs of one row with itself excluded */
  readonly logits: Tensor2D;
  /** `[N, N]`: 1 where a row meets itself */
  readonly isSelf: Tensor2D;
  /** `[N]` the index of each row's other view, as a `[N, N]` mask */
  readonly isOther: Tensor2D;
}

export function pairsOf(embeddings: Tensor2D, batch: number, temperature: number): Pairs {
  const [rows] = embeddings.shape;
  const isSelf = tf.eye(rows);
  const logits = tf.div<Tensor2D>(preciseMatMul(embeddings, embeddings, false, true), temperature);
  // Rows come as [W, 2, B]: the other view of a row is B rows on or back.
  const isOther = tf.reshape(tf.reverse(tf.reshape(isSelf, [rows / (2 * batch), 2, batch, rows]), 1), [rows, rows]);
  return { logits: onlyWhere(logits, tf.sub(1, isSelf)), isSelf, isOther: isOther as Tensor2D };
}

/** The loss, and what the pairs say beside it. @param isPositive `[N, N]`: 1 for the positives of a row */
export function contrastOf(loss: Scalar, { logits, isSelf, isOther }: Pairs, isPositive: Tensor2D): Contrast {
  const isNegative = tf.sub<Tensor2D>(tf.sub(1, isSelf), isPositive);
  return {
    loss,
    positive: tf.sum(tf.mul(logits, isOther), 1),
    hardestNegative: hardestOf(onlyWhere(tf.mul(logits, isNegative), isNegative)),
    meanNegative: tf.div(tf.sum(tf.mul(logits, isNegative)), tf.maximum(tf.sum(isNegative), 1)),
  };
}
