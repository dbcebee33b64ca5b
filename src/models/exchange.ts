/** What travels between a worker and an aggregator, float32 throughout, and how it lies in memory that the two share. */
import type { ParameterLayout } from "./parameters.js";
import type { ParameterShard, Slice } from "./shards.js";

type Lengths = Pick<ParameterLayout, "parameterCount" | "bufferCount">;

/** A stretch of one of the weights' three vectors. */
export interface WeightsPart {
  readonly name: "query" | "key" | "buffers";
  readonly offset: number;
  readonly size: number;
}

/**
 * What one bucket brings: its slices of θq and θk, and, with bucket 0, the buffers.
 * @param keyFollows leaves θk out
 */
export function weightsParts(
  { bufferCount }: Lengths,
  { offset, size }: Slice,
  bucket: number,
  keyFollows: boolean,
): readonly WeightsPart[] {
  const query = { name: "query", offset, size } as const;
  const key = { name: "key", offset, size } as const;
  const buffers = { name: "buffers", offset: 0, size: bufferCount } as const;
  return [query, ...(keyFollows ? [] : [key]), ...(bucket === 0 ? [buffers] : [])];
}

/** Values that a rank gives: gradients of θq, then the batch-norm statistics of the query and of the key encoder. */
export function gradientLength({ parameterCount, bufferCount }: Lengths): number {
  return parameterCount + 2 * bufferCount;
}

/** Where a shard's part lies of what a rank gives: the last has the statistics. */
export function gradientSlice({ offset, layout }: ParameterShard): Slice {
  return { offset, size: gradientLength(layout) };
}

/** How gradients are summed and sent: bf16 rounds them at every node of the sum; statistics are float32 either way. */
export type GradientType = "fp32" | "bf16";

/**
 * How weights travel between machines: auto is bf16 where that loses nothing, and how they differ from the version before (delta) where
 * that is faster.
 */
export const WIRE_WEIGHTS = ["auto", "fp32", "bf16", "delta"] as const;
export type WireWeights = (typeof WIRE_WEIGHTS)[number];

/** How weights and gradients reach workers and aggregators. None of it shows in the result. */
export interface Wire {
  readonly weights: WireWeights;
  /** whether those on one machine share memory; otherwise all travels, as between machines */
  readonly sharesMemory: boolean;
}

/** Values of a sum, the first ones, that are rounded to bfloat16. */
export function roundedLength({ parameterCount }: Lengths, type: GradientType): number {
  return type === "bf16" ? parameterCount : 0;
}

/** Weights of one version in memory that processes share: θq, θk and the query encoder's buffers, each on a cache line. */
const SLOT_ALIGNMENT = 16;
const aligned = (length: number) => Math.ceil((length + 1) / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;

/** Values in a slot. */
export function slotLength({ parameterCount, bufferCount }: Lengths): number {
  return 2 * aligned(parameterCount) + aligned(bufferCount);
}

/** @param slot float32 `[slotLength]` */
export function slotVectors({ parameterCount, bufferCount }: Lengths, slot: Float32Array) {
  const [key, buffers] = [aligned(parameterCount), 2 * aligned(parameterCount)];
  return {
    query: slot.subarray(0, parameterCount),
    key: slot.subarray(key, key + parameterCount),
    buffers: slot.subarray(buffers, buffers + bufferCount),
  };
}
