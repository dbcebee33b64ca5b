/**
 * Momentum contrast (He et al. 2020, Algorithm 1), the part of one logical rank: keys with θk, queries with θq, InfoNCE
 * against the queue, gradients of θq. The momentum update and the queue belong to the coordinator and its aggregators.
 */
import {
  gatherRows,
  tf,
  timestamp,
  type Scalar,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor4D,
} from "../engine/index.js";
import { trainingNorm, type Encoder, type ForwardContext, type StatisticsSink } from "../models/index.js";
import { infoNce, normalise } from "./infonce.js";

export interface MocoInput {
  readonly encoder: Encoder;
  /** θq and θk, one tensor a parameter in the layout's order */
  readonly query: readonly Tensor[];
  readonly key: readonly Tensor[];
  /** `[B, S, S, 3]` normalised query and key views of the same samples */
  readonly queryViews: Tensor4D;
  readonly keyViews: Tensor4D;
  /** `[K, D]` */
  readonly queue: Tensor2D;
  readonly temperature: number;
  readonly bnSplits: number;
  /** int32 `[B]` each: the order in which shuffling BN shows the key views to the key encoder, and its inverse. Null: theirs */
  readonly keyShuffle: { readonly order: Tensor1D; readonly inverse: Tensor1D } | null;
}

/** The caller disposes it: `tf.dispose(result)`. (A type, since tfjs takes no interface for a container of tensors.) */
export type MocoResult = {
  readonly loss: Scalar;
  /** gradient of the loss for each parameter of θq, in the layout's order */
  readonly gradients: Tensor[];
  /** `[B, D]` of unit length: they enter the queue */
  readonly keys: Tensor2D;
  /** batch statistics by layer, in the layout's order of buffers: mean, variance, mean, variance, … */
  readonly queryStatistics: Tensor1D[];
  readonly keyStatistics: Tensor1D[];
  /** mean of q·k⁺, and of q·kᵢ over the queue: cosine similarities */
  readonly positiveSimilarity: Scalar;
  readonly negativeSimilarity: Scalar;
  /** share of the batch whose positive outranks every negative */
  readonly accuracy: Scalar;
  /** `timestamp` of when the forward passes were done and the backward pass began */
  readonly forwardDoneAt: Tensor1D;
};

export function forwardContext(
  encoder: Encoder,
  values: readonly Tensor[],
  normaliseLayer: ForwardContext["normalise"],
): ForwardContext {
  const byName = new Map(encoder.layout.parameters.map((spec, index) => [spec.name, values[index]]));
  return {
    normalise: normaliseLayer,
    parameter: <T extends Tensor>(name: string) => {
      const value = byName.get(name);
      if (value === undefined) throw new Error(`the encoder has no parameter ${name}`);
      return value as T;
    },
  };
}

/** Gathers the statistics of one encoder in the order of its buffers; they outlive the tidy they were made in. */
function statisticsOf(encoder: Encoder): { sink: StatisticsSink; ordered: () => Tensor1D[] } {
  const byName = new Map<string, Tensor1D>();
  return {
    sink: (name, mean, variance) => {
      byName.set(`${name}.running_mean`, tf.keep(mean));
      byName.set(`${name}.running_var`, tf.keep(variance));
    },
    ordered: () =>
      encoder.layout.buffers.map(({ name }) => {
        const value = byName.get(name);
        if (value === undefined) throw new Error(`no statistics were seen for ${name}`);
        return value;
      }),
  };
}

/** `[B, D]` keys of unit length, no gradient. */
function encodeKeys(input: MocoInput, sink: StatisticsSink): Tensor2D {
  const { encoder, key, keyViews, keyShuffle, bnSplits } = input;
  return tf.tidy(() => {
    const context = forwardContext(encoder, key, trainingNorm(bnSplits, sink));
    const views = keyShuffle === null ? tf.clone(keyViews) : gatherRows(keyViews, keyShuffle.order);
    const shuffled = normalise(encoder.project(context, encoder.features(context, views)));
    return keyShuffle === null ? shuffled : gatherRows(shuffled, keyShuffle.inverse);
  });
}

export function mocoStep(input: MocoInput): MocoResult {
  const { encoder, queue, temperature } = input;
  const keyStatistics = statisticsOf(encoder);
  const queryStatistics = statisticsOf(encoder);
  const keys = encodeKeys(input, keyStatistics.sink);

  const kept: { positive?: Scalar; negative?: Scalar; accuracy?: Scalar; forwardDoneAt?: Tensor1D } = {};
  const { value: loss, grads: gradients } = tf.valueAndGrads((...parameters: Tensor[]) => {
    const context = forwardContext(encoder, parameters, trainingNorm(input.bnSplits, queryStatistics.sink));
    const features = encoder.features(context, tf.clone(input.queryViews));
    const queries = normalise(encoder.project(context, features));
    const result = infoNce(queries, keys, queue, temperature);
    kept.positive = tf.keep(tf.mul(tf.mean(result.positive), temperature));
    kept.negative = tf.keep(tf.mul(tf.mean(result.negatives), temperature));
    kept.accuracy = tf.keep(tf.mean(tf.greater(result.positive, tf.max(result.negatives, 1))));
    kept.forwardDoneAt = tf.keep(timestamp(result.loss));
    return result.loss;
  })([...input.query]);
  const { positive, negative, accuracy, forwardDoneAt } = kept;
  if (positive === undefined || negative === undefined || accuracy === undefined || forwardDoneAt === undefined)
    throw new Error("the forward pass did not run");

  return {
    loss: loss,
    gradients,
    keys,
    queryStatistics: queryStatistics.ordered(),
    keyStatistics: keyStatistics.ordered(),
    positiveSimilarity: positive,
    negativeSimilarity: negative,
    accuracy,
    forwardDoneAt,
  };
}
