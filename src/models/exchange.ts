/**
 * What travels between a worker and an aggregator, float32 throughout, and where it lies in a segment of memory that the
 * two share: θq, θk, the query encoder's batch-norm buffers, then one gradient.
 */
import type { ParameterLayout } from "./parameters.js";
import type { ParameterShard } from "./shards.js";

const { BYTES_PER_ELEMENT } = Float32Array;

/** A stretch of one of the weights' three vectors. */
export interface WeightsPart {
  readonly name: "query" | "key" | "buffers";
  readonly offset: number;
  readonly size: number;
  /** first byte in a shared segment */
  readonly position: number;
}

/**
 * What one shard brings: its slices of θq and θk, and, with shard 0, the buffers.
 * @param keyFollows leaves θk out
 */
export function weightsParts(
  { parameterCount, bufferCount }: ParameterLayout,
  { offset, size }: ParameterShard,
  shard: number,
  keyFollows: boolean,
): readonly WeightsPart[] {
  const at = (index: number) => BYTES_PER_ELEMENT * index;
  const query = { name: "query", offset, size, position: at(offset) } as const;
  const key = { name: "key", offset, size, position: at(parameterCount + offset) } as const;
  const buffers = { name: "buffers", offset: 0, size: bufferCount, position: at(2 * parameterCount) } as const;
  return [query, ...(keyFollows ? [] : [key]), ...(shard === 0 ? [buffers] : [])];
}

/** Values that a rank gives: gradients of θq, then the batch-norm statistics of the query and of the key encoder. */
export function gradientLength({ parameterCount, bufferCount }: ParameterLayout): number {
  return parameterCount + 2 * bufferCount;
}

/** First byte of the gradient in a shared segment. */
export function gradientPosition({ parameterCount, bufferCount }: ParameterLayout): number {
  return BYTES_PER_ELEMENT * (2 * parameterCount + bufferCount);
}

export function segmentBytes(layout: ParameterLayout): number {
  return gradientPosition(layout) + BYTES_PER_ELEMENT * gradientLength(layout);
}
