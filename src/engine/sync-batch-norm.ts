/**
 * Batch norm whose statistics are of the global batch, whatever rank holds which part of it ("SyncBN"; SimCLR calls it global BN,
 * Chen et al. 2020, section 2.2). Ranks show each other what they know of their own part, `[C]` values a layer and direction, and
 * each sums what all have shown by the fixed tree, so all compute with the same bits.
 */
import { acrossRanks, sumOverRanks } from "./across-ranks.js";
import { inFullPrecision } from "./compiled/record.js";
import type { BatchNormResult } from "./kernels.js";
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D } from "./tensorflow.js";

interface SyncBatchNorm {
  readonly epsilon: number;
  readonly relu: boolean;
  readonly ranks: number;
}

const KERNEL = "TandemSyncBatchNorm";

/** Two vectors of each rank, `[C]`, as all ranks know them: `[W, C]` each. */
function shared(a: Tensor1D, b: Tensor1D, ranks: number): readonly [Tensor2D, Tensor2D] {
  const [channels] = a.shape;
  const block = acrossRanks(tf.concat<Tensor1D>([a, b]), ranks);
  return [tf.slice(block, [0, 0], [ranks, channels]), tf.slice(block, [0, channels], [ranks, channels])];
}

/** `[N, H, W, C]` as `[N·H·W, C]`: one row a value of each channel. */
function rowsOf(x: Tensor): Tensor2D {
  return tf.reshape(x, [-1, x.shape.at(-1) ?? 1]);
}

tf.registerKernel({
  kernelName: KERNEL,
  backendName: "tensorflow",
  kernelFunc: ({ inputs, attrs }) => {
    const { x, scale, shift } = inputs as unknown as { x: Tensor4D; scale: Tensor1D; shift: Tensor1D };
    const { epsilon, relu, ranks } = attrs as unknown as SyncBatchNorm;
    return inFullPrecision(() =>
      tf.tidy(() => {
        const rows = rowsOf(x);
        const own = tf.mean<Tensor1D>(rows, 0);
        const spread = tf.mean<Tensor1D>(tf.square(tf.sub(rows, own)), 0);
        const [means, spreads] = shared(own, spread, ranks);
        const mean = tf.div<Tensor1D>(sumOverRanks(means), ranks);
        // Parts of one size (Chan, Golub and LeVeque 1979): never the difference of two large numbers.
        const variance = tf.div<Tensor1D>(
          sumOverRanks(tf.add<Tensor2D>(spreads, tf.square(tf.sub(means, mean)))),
          ranks,
        );
        const deviation = tf.rsqrt(tf.add(variance, epsilon));
        const normalised = tf.add(tf.mul(tf.sub(rows, mean), tf.mul(scale, deviation)), shift);
        const y = tf.reshape(relu ? tf.relu(normalised) : normalised, x.shape);
        const count = ranks * rows.shape[0];
        const unbiased = tf.mul(variance, count / Math.max(1, count - 1));
        return [y, mean, unbiased, deviation];
      }),
    );
  },
});

tf.registerGradient({
  kernelName: KERNEL,
  inputsToSave: ["x", "scale"],
  outputsToSave: [true, true, false, true],
  gradFunc: (dys, saved, attrs) => {
    const { relu, ranks } = attrs as unknown as SyncBatchNorm;
    const [x, scale, y, mean, deviation] = saved;
    const [dy] = dys as unknown as Tensor[];
    const outputs = inFullPrecision(() =>
      tf.tidy(() => {
        const upstream = rowsOf(relu ? tf.mul(dy, tf.step(y)) : dy);
        const normalised = tf.mul(tf.sub(rowsOf(x), mean), deviation);
        const ofShift = tf.sum<Tensor1D>(upstream, 0);
        const ofScale = tf.sum<Tensor1D>(tf.mul(upstream, normalised), 0);
        const [shifts, scales] = shared(ofShift, ofScale, ranks);
        const count = ranks * upstream.shape[0];
        const common = tf.add(sumOverRanks(shifts), tf.mul(normalised, sumOverRanks(scales)));
        const ofRows = tf.mul(tf.mul(scale, deviation), tf.sub(upstream, tf.div(common, count)));
        return [tf.reshape(ofRows, x.shape), ofScale, ofShift];
      }),
    );
    // As of `batchNorm`: made together, asked for apart.
    const gradient = (index: number) => () => {
      const handedOver = tf.clone(outputs[index]);
      outputs[index].dispose();
      return handedOver;
    };
    return { x: gradient(0), scale: gradient(1), shift: gradient(2) };
  },
});

/**
 * As `batchNorm`, with the statistics of all ranks' parts, which are of one size. The gradient of `x` includes what it does to
 * the other ranks' losses, so that the mean over the ranks is the gradient of the mean loss.
 */
export function syncBatchNorm(
  x: Tensor4D,
  scale: Tensor1D,
  shift: Tensor1D,
  epsilon: number,
  relu: boolean,
  ranks: number,
): BatchNormResult {
  const outputs = tf.engine().runKernel(KERNEL, { x, scale, shift }, { epsilon, relu, ranks });
  const [y, mean, variance] = outputs as unknown as [Tensor4D, Tensor1D, Tensor1D];
  return { y, mean, variance };
}
