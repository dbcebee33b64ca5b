/** The two flat vectors that travel between a worker and an aggregator, and where each part lies. All float32. */
import type { ParameterLayout } from "./parameters.js";
import type { ParameterShard } from "./shards.js";

/** A stretch of a flat vector. */
export interface Place {
  readonly offset: number;
  readonly size: number;
}

/** Weights: θq, θk, then the query encoder's batch-norm buffers. */
export function weightsLength({ parameterCount, bufferCount }: ParameterLayout): number {
  return 2 * parameterCount + bufferCount;
}

/** Part of the weights: which of the three, and where it lies in their vector. */
export interface WeightsPart extends Place {
  readonly part: "query" | "key" | "buffers";
}

/**
 * What one shard brings: its slices of θq and θk, and, with shard 0, the buffers.
 * @param keyFollows leaves θk out
 */
export function weightsPlaces(
  layout: ParameterLayout,
  { offset, size }: ParameterShard,
  shard: number,
  keyFollows: boolean,
): readonly WeightsPart[] {
  const { parameterCount, bufferCount } = layout;
  const query = { part: "query", offset, size } as const;
  const key = { part: "key", offset: parameterCount + offset, size } as const;
  const buffers = { part: "buffers", offset: 2 * parameterCount, size: bufferCount } as const;
  return [query, ...(keyFollows ? [] : [key]), ...(shard === 0 ? [buffers] : [])];
}

/** What a rank gives: gradients of θq, then the batch-norm statistics of the query and of the key encoder. */
export function gradientLength({ parameterCount, bufferCount }: ParameterLayout): number {
  return parameterCount + 2 * bufferCount;
}

/** A segment that worker and aggregator share holds the weights, and behind them one gradient. */
export function segmentBytes(layout: ParameterLayout): number {
  return gradientPosition(layout) + Float32Array.BYTES_PER_ELEMENT * gradientLength(layout);
}

/** First byte of the gradient in a shared segment. */
export function gradientPosition(layout: ParameterLayout): number {
  return Float32Array.BYTES_PER_ELEMENT * weightsLength(layout);
}
