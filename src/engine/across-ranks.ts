/** What the ranks of a step tell each other in the middle of it. */
import { currentRecording } from "./compiled/record.js";
import { ACROSS_RANKS, DTYPE } from "./compiled/graph.js";
import { tf, type Tensor1D, type Tensor2D } from "./tensorflow.js";

/**
 * A vector of each rank, known to all: the step is cut here into stages, and whoever runs it brings what the others have shown. While a
 * step is recorded, and where there is one rank, all are alike. No gradient.
 * @param x float32 `[n]` of this rank
 * @returns `[W, n]`, in rank order
 * @throws Error where a step of several ranks is not compiled
 */
export function acrossRanks(x: Tensor1D, ranks: number): Tensor2D {
  const recording = currentRecording();
  if (recording === null && ranks > 1) throw new Error("only a compiled step can wait for other ranks");
  const [length] = x.shape;
  const block = tf.tile<Tensor2D>(tf.reshape(x, [1, length]), [ranks, 1]);
  if (recording === null) return block;
  const shown = recording.add({
    operation: ACROSS_RANKS,
    attributes: { dtype: { type: DTYPE.float32 }, shape: { shape: block.shape } },
    inputs: [recording.edgeOfTensor(x)],
    outputs: [{ dtype: DTYPE.float32, shape: block.shape }],
    fullPrecision: true,
  });
  recording.substitute(block, shown);
  return block;
}

/**
 * The sum over the ranks by the fixed tree, as `SumTree` sums gradients. Zeros stand where no rank is: they change no bit.
 * @param block `[W, n]` @returns `[n]`
 */
export function sumOverRanks(block: Tensor2D): Tensor1D {
  const [ranks, length] = block.shape;
  if (ranks === 1) return tf.reshape(block, [length]);
  const even =
    ranks % 2 === 0
      ? block
      : tf.pad(block, [
          [0, 1],
          [0, 0],
        ]);
  const pairs = tf.reshape(even, [even.shape[0] / 2, 2, length]);
  const [left, right] = tf.unstack(pairs, 1) as [Tensor2D, Tensor2D];
  return sumOverRanks(tf.add(left, right));
}
