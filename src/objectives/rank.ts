/** What every method's part of one logical rank has in common: encoding with θq or θk, and the gradient of a loss of θq. */
import { tf, timestamp, type Scalar, type Tensor, type Tensor1D, type Tensor2D } from "../engine/index.js";
import {
  trainingNorm,
  type BatchNormScope,
  type Encoder,
  type ForwardContext,
  type StatisticsSink,
  type Views,
} from "../models/index.js";
import { normalise, type Contrast } from "./contrast.js";

export interface RankInput {
  readonly encoder: Encoder;
  /** θq and θk, one tensor a parameter in the layout's order */
  readonly query: readonly Tensor[];
  readonly key: readonly Tensor[];
  /** B each: two views of each sample */
  readonly queryViews: Views;
  readonly keyViews: Views;
  readonly batchNorm: BatchNormScope;
  readonly temperature: number;
}

/** The caller disposes it: `tf.dispose(result)`. (A type, since tfjs takes no interface for a container of tensors.) */
export type StepResult = {
  readonly loss: Scalar;
  /** gradient of the loss for each parameter of θq, in the layout's order */
  readonly gradients: Tensor[];
  /** `[B, D]` of unit length that enter the queue; null where the method has none */
  readonly keys: Tensor2D | null;
  /** batch statistics by layer, in the layout's order of buffers: mean, variance, mean, variance, … */
  readonly queryStatistics: Tensor1D[];
  /** those of the key encoder; empty where they came with the exchange, or there is no key encoder */
  readonly keyStatistics: Tensor1D[];
  /** mean of q·k⁺, and of q·k⁻: cosine similarities */
  readonly positiveSimilarity: Scalar;
  readonly negativeSimilarity: Scalar;
  /** share of the batch whose positive outranks every negative */
  readonly accuracy: Scalar;
  /** `timestamp` of when the forward passes were done and the backward pass began */
  readonly forwardDoneAt: Tensor1D;
};

/** What one rank shows the others. (A type, since tfjs takes no interface for a container of tensors.) */
export type Shown = {
  /** `[n, D]` of unit length */
  readonly embeddings: Tensor2D;
  /** batch statistics of the key encoder where it made them, in the layout's order of buffers; otherwise empty */
  readonly statistics: Tensor1D[];
};

/** What all ranks have shown, as one of them sees it. (A type, since tfjs takes no interface for a container of tensors.) */
export type Exchanged = {
  /** `[W·n, width]` in rank order */
  readonly block: Tensor2D;
  /** float32 `[W]`: 1 for this rank, 0 for the others */
  readonly own: Tensor1D;
  /** int32 `[B]`: rows of the block that belong to this rank's samples, where they are not its own */
  readonly rows: Tensor1D | null;
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
export class Statistics {
  private readonly byName = new Map<string, Tensor1D>();

  readonly sink: StatisticsSink = (name, mean, variance) => {
    this.byName.set(`${name}.running_mean`, tf.keep(mean));
    this.byName.set(`${name}.running_var`, tf.keep(variance));
  };

  /** Of a layer that was not run, those with which its buffers start: mean 0, variance 1. */
  ordered({ layout }: Encoder): Tensor1D[] {
    return layout.buffers.map(({ name, size, statistic }) => {
      const unseen = () => (statistic === "mean" ? tf.zeros([size]) : tf.ones([size]));
      return this.byName.get(name) ?? (unseen() as Tensor1D);
    });
  }
}

/** 2B: both views in one batch, the first ones before the second ones. */
export function bothViews({ queryViews, keyViews }: RankInput): Views {
  return tf.concat<Views>([queryViews, keyViews], 0);
}

/** How views become embeddings. */
export interface Encoding {
  readonly batchNorm: BatchNormScope;
  /** whether the prediction head follows the projection (MoCo v3's queries) */
  readonly predicts?: boolean;
}

/** `[n, D]` of unit length */
export function encode(
  encoder: Encoder,
  parameters: readonly Tensor[],
  views: Views,
  { batchNorm, predicts = false }: Encoding,
  sink: StatisticsSink,
): Tensor2D {
  const context = forwardContext(encoder, parameters, trainingNorm(batchNorm, sink));
  const projected = encoder.project(context, encoder.features(context, views));
  return normalise(predicts ? encoder.predict(context, projected) : projected);
}

/** @throws Error where there is none left */
function next<T>(values: Iterator<T, undefined>): T {
  const { value } = values.next();
  if (value === undefined) throw new Error("there are fewer tensors than parameters");
  return value;
}

type Differentiated = Omit<StepResult, "keys" | "keyStatistics">;

/**
 * Loss, and its gradient for θq.
 * @param scale of the gradient over the loss's. The gradient of a step is the mean over its ranks: a rank that has only its own
 *   share of the gradient of a loss that belongs to all W of them gives W times that
 */
export function differentiate(
  { encoder, query, temperature }: RankInput,
  views: Views,
  encoding: Encoding,
  contrast: (queries: Tensor2D) => Contrast,
  scale = 1,
): Differentiated {
  const statistics = new Statistics();
  const kept: { loss?: Scalar; positive?: Scalar; negative?: Scalar; accuracy?: Scalar; forwardDoneAt?: Tensor1D } = {};
  const isFrozen = encoder.layout.parameters.map(({ frozen }) => frozen === true);
  const trained = query.filter((_, index) => !isFrozen[index]);
  const { value, grads } = tf.valueAndGrads((...parameters: Tensor[]) => {
    const left = parameters.values();
    const whole = query.map((fixed, index) => (isFrozen[index] ? fixed : next(left)));
    const result = contrast(encode(encoder, whole, tf.clone(views), encoding, statistics.sink));
    kept.positive = tf.keep(tf.mul(tf.mean(result.positive), temperature));
    kept.negative = tf.keep(tf.mul(result.meanNegative, temperature));
    kept.accuracy = tf.keep(tf.mean(tf.greater(result.positive, result.hardestNegative)));
    kept.forwardDoneAt = tf.keep(timestamp(result.loss));
    if (scale === 1) return result.loss;
    kept.loss = tf.keep(tf.clone(result.loss));
    return tf.mul<Scalar>(result.loss, scale);
  })(trained);
  const left = grads.values();
  const gradients = query.map((fixed, index) => (isFrozen[index] ? tf.zerosLike(fixed) : next(left)));
  const { loss = value, positive, negative, accuracy, forwardDoneAt } = kept;
  if (positive === undefined || negative === undefined || accuracy === undefined || forwardDoneAt === undefined)
    throw new Error("the forward pass did not run");
  return {
    loss,
    gradients,
    queryStatistics: statistics.ordered(encoder),
    positiveSimilarity: positive,
    negativeSimilarity: negative,
    accuracy,
    forwardDoneAt,
  };
}
