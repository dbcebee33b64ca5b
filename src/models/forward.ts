/** What a layer is given when an encoder runs: its parameters by name, and what batch norm does. */
import { batchNorm, syncBatchNorm, tf, type Tensor, type Tensor1D, type Tensor4D } from "../engine/index.js";
import { BATCH_NORM_EPSILON } from "./constants.js";

/** Batch norm of one layer: `[N, H, W, C]` in and out. */
export type Normalise = (name: string, x: Tensor4D, scale: Tensor1D, shift: Tensor1D, relu: boolean) => Tensor4D;

export interface ForwardContext {
  /** @throws Error where the model asks for a name that its layout does not have */
  parameter<T extends Tensor>(name: string): T;
  readonly normalise: Normalise;
}

/** Sees the statistics of one batch-norm layer: `[C]` mean and unbiased variance. */
export type StatisticsSink = (name: string, mean: Tensor1D, variance: Tensor1D) => void;

/** What batch norm takes for its batch. */
export interface BatchNormScope {
  /** groups along N that are normalised apart (MoCo's "split BN") */
  readonly splits: number;
  /** ranks whose batches are normalised as one ("SyncBN"); 1: the rank's own */
  readonly ranks: number;
}

export const OWN_BATCH: BatchNormScope = { splits: 1, ranks: 1 };

/** Batch norm by batch statistics. Those handed on are the means over the groups. */
export function trainingNorm({ splits, ranks }: BatchNormScope, sink: StatisticsSink): Normalise {
  return (name, x, scale, shift, relu) => {
    const normalised = (group: Tensor4D) =>
      ranks === 1
        ? batchNorm(group, scale, shift, BATCH_NORM_EPSILON, relu)
        : syncBatchNorm(group, scale, shift, BATCH_NORM_EPSILON, relu, ranks);
    if (splits === 1) {
      const { y, mean, variance } = normalised(x);
      sink(name, mean, variance);
      return y;
    }
    const groups = tf.split<Tensor4D>(x, splits, 0).map(normalised);
    const average = (statistics: Tensor1D[]) => tf.div<Tensor1D>(tf.addN(statistics), splits);
    sink(name, average(groups.map(({ mean }) => mean)), average(groups.map(({ variance }) => variance)));
    return tf.concat(
      groups.map(({ y }) => y),
      0,
    );
  };
}

/** Batch norm by running statistics, folded into one multiplication and one addition. No gradient. */
export function evaluationNorm(buffer: (name: string) => Tensor1D): Normalise {
  return (name, x, scale, shift, relu) =>
    tf.tidy(() => {
      const factor = tf.mul(scale, tf.rsqrt(tf.add(buffer(`${name}.running_var`), BATCH_NORM_EPSILON)));
      const offset = tf.sub(shift, tf.mul(buffer(`${name}.running_mean`), factor));
      const y = tf.add<Tensor4D>(tf.mul(x, factor), offset);
      return relu ? tf.relu(y) : y;
    });
}
