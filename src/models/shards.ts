/** How the flat parameter vector is cut into shards: what is summed, updated and sent as one piece. */
import type { ParameterLayout } from "./parameters.js";

/** A contiguous slice of θ, cut at tensor borders. */
export interface ParameterShard {
  /** index of the first value in θ */
  readonly offset: number;
  readonly size: number;
}

/**
 * Values in a shard at least, but for the last: 4 MB. Small enough that updating one and sending the one before overlap,
 * large enough that a message's fixed cost (about 0.1 ms) does not show.
 */
export const LEAST_SHARD_SIZE = 1 << 20;

export function parameterShards(layout: ParameterLayout, leastSize = LEAST_SHARD_SIZE): readonly ParameterShard[] {
  const shards: ParameterShard[] = [];
  let offset = 0;
  for (const parameter of layout.parameters) {
    const end = parameter.offset + parameter.size;
    if (end - offset < leastSize && end < layout.parameterCount) continue;
    shards.push({ offset, size: end - offset });
    offset = end;
  }
  return shards;
}

export function sliceOf(vector: Float32Array, { offset, size }: ParameterShard): Float32Array {
  return vector.subarray(offset, offset + size);
}
