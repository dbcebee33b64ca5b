/** How θ is cut into parameter shards, each owned by one aggregator. */
import type { ParameterLayout } from "./parameters.js";

/** A contiguous slice of a flat vector, cut at tensor borders. */
export interface Slice {
  /** index of the first value */
  readonly offset: number;
  readonly size: number;
}

export function sliceOf(vector: Float32Array, { offset, size }: Slice): Float32Array {
  return vector.subarray(offset, offset + size);
}

/**
 * What one aggregator owns. The last shard has the batch-norm buffers too, so that what a rank gives (gradients of θq, then
 * statistics) is cut where the parameters are.
 */
export interface ParameterShard extends Slice {
  /** its parameters and buffers, counted from its own first value */
  readonly layout: ParameterLayout;
}

/**
 * Shards of which the largest is as small as tensor borders allow.
 * @param count of shards; at most one a tensor
 * @throws RangeError where there are fewer tensors
 */
export function parameterShards(layout: ParameterLayout, count: number): readonly ParameterShard[] {
  const { parameters, parameterCount } = layout;
  if (count < 1 || count > parameters.length)
    throw new RangeError(`${String(count)} shards of ${String(parameters.length)} tensors`);
  // The least size with which so many shards do: between an equal share and everything.
  let [least, most] = [Math.ceil(parameterCount / count), parameterCount];
  while (least < most) {
    const middle = Math.floor((least + most) / 2);
    if (cutBy(layout, middle, count) === null) least = middle + 1;
    else most = middle;
  }
  const ends = cutBy(layout, most, count) ?? [];
  return ends.map((end, index) => shardOf(layout, index === 0 ? 0 : ends[index - 1], end));
}

/**
 * Numbers of parameters at which shards end, each filled as far as `mostSize` allows, with a tensor left for each that follows.
 * @returns null where that takes more shards than `count`
 */
function cutBy({ parameters }: ParameterLayout, mostSize: number, count: number): number[] | null {
  const ends: number[] = [];
  let size = 0;
  for (const [index, parameter] of parameters.entries()) {
    const isForced = parameters.length - index === count - ends.length - 1;
    if (index > 0 && (size + parameter.size > mostSize || isForced)) {
      ends.push(index);
      size = 0;
    }
    size += parameter.size;
    if (size > mostSize || ends.length === count) return null;
  }
  return [...ends, parameters.length];
}

function shardOf(layout: ParameterLayout, first: number, end: number): ParameterShard {
  const { offset } = layout.parameters[first];
  const parameters = layout.parameters
    .slice(first, end)
    .map((parameter) => ({ ...parameter, offset: parameter.offset - offset }));
  const parameterCount = parameters.reduce((sum, { size }) => sum + size, 0);
  const isLast = end === layout.parameters.length;
  const { buffers, bufferCount } = isLast ? layout : { buffers: [], bufferCount: 0 };
  return { offset, size: parameterCount, layout: { parameters, buffers, parameterCount, bufferCount } };
}
