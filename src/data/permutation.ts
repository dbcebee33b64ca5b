/** Which samples a rank takes in a step: a pure function of seed, step and rank, so no worker needs to be told. */
import { Purpose, Stream } from "../protocol/philox.js";

/** Where a step lies in the run. */
export interface StepPosition {
  readonly epoch: number;
  /** in [0, stepsPerEpoch) */
  readonly stepInEpoch: number;
}

/** @param step counted from 0 over the whole run */
export function positionOf(step: number, stepsPerEpoch: number): StepPosition {
  return { epoch: Math.floor(step / stepsPerEpoch), stepInEpoch: step % stepsPerEpoch };
}

/**
 * The epoch's order of the samples, int32 `[length]`, by the shuffle of Fisher and Yates (Durstenfeld 1964).
 * @param length samples in the training split
 */
export function epochPermutation(seed: number, epoch: number, length: number): Int32Array {
  return shuffled(new Stream(seed, { purpose: Purpose.permutation, epoch }), length);
}

/**
 * Shuffling BN across ranks: place p of the key batches shows the key view of place `order[p]` of the global batch, so the
 * ranks' batch norms see other samples together than the queries'. int32 `[W·B]`
 */
export function keyOrder(seed: number, step: number, worldSize: number, batchSize: number): Int32Array {
  // No rank has this number, so no shuffle within one draws from the same stream.
  return shuffled(
    new Stream(seed, { purpose: Purpose.keyShuffle, epoch: step, sample: worldSize }),
    worldSize * batchSize,
  );
}

/** Which place of a permutation holds each number. */
export function inverseOf(order: Int32Array): Int32Array {
  const inverse = new Int32Array(order.length);
  order.forEach((number, place) => (inverse[number] = place));
  return inverse;
}

/** 0 … length − 1 in an order that the stream draws (Fisher and Yates). */
export function shuffled(stream: Stream, length: number): Int32Array {
  const order = Int32Array.from({ length }, (_, index) => index);
  for (let last = length - 1; last > 0; last--) {
    const chosen = stream.below(last + 1);
    const held = order[last];
    order[last] = order[chosen];
    order[chosen] = held;
  }
  return order;
}

/**
 * Samples of one rank in one step, int32 `[B]`, a view of the permutation: a global batch is a stretch of `W·B` of it, cut among the
 * ranks in order. What remains behind the last whole global batch is not used in this epoch.
 * @throws RangeError where the epoch has no such step or the world no such rank
 */
export function samplesOf(
  permutation: Int32Array,
  stepInEpoch: number,
  rank: number,
  worldSize: number,
  batchSize: number,
): Int32Array {
  const start = (stepInEpoch * worldSize + rank) * batchSize;
  const stepEnd = (stepInEpoch + 1) * worldSize * batchSize;
  if (rank < 0 || rank >= worldSize || stepInEpoch < 0 || stepEnd > permutation.length) {
    throw new RangeError(
      `step ${stepInEpoch} of the epoch, rank ${rank} of ${worldSize}: not among ${permutation.length} samples`,
    );
  }
  return permutation.subarray(start, start + batchSize);
}
