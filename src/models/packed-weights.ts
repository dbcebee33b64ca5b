/**
 * A bucket of weights in bfloat16. What computes in bfloat16 rounds its weights first, so that to round them before they travel
 * loses nothing; norms and biases are computed with in float32, and stay so.
 */
import { differencesLength, layersIn, packedLength, type LayerSlice, type VectorArena } from "../optim/index.js";
import { isWeight, type ParameterSpec } from "./parameters.js";
import { sliceOf, type Slice } from "./shards.js";

/** θq and θk of one bucket, float32, rounded or not. */
export interface BucketWeights {
  readonly query: Float32Array;
  readonly key: Float32Array;
}

/** What is written of a bucket: the first so many values of a vector. */
export interface Written {
  readonly vector: Float32Array;
  readonly length: number;
}

/** A layer's stretch, and whether it is rounded. */
export type Rounding = Pick<LayerSlice, "offset" | "size" | "bfloat16">;

/** @param layers of which each bucket has some, in order, counted from the first bucket's first value */
export function packedBuckets(buckets: readonly Slice[], layers: readonly Rounding[]): readonly PackedBucket[] {
  return buckets.map((bucket) => new PackedBucket(layersIn(layers, bucket)));
}

/** How a run that computes in bfloat16 takes its parameters. */
export function roundings(parameters: readonly ParameterSpec[]): readonly Rounding[] {
  return parameters.map((spec) => ({ offset: spec.offset, size: spec.size, bfloat16: isWeight(spec) }));
}

/** A copy of θ in which what is rounded is the nearest bfloat16. The vector is the caller's until it is released. */
export function roundedWeights(arena: VectorArena, values: Float32Array, layers: readonly Rounding[]): Float32Array {
  const copy = arena.take(values.length);
  copy.set(values);
  for (const layer of layers) if (layer.bfloat16) arena.round(sliceOf(copy, layer));
  return copy;
}

const VALUE_BYTES = Float32Array.BYTES_PER_ELEMENT;

export class PackedBucket {
  /** stretches that are rounded, and those that are not */
  private readonly low: readonly Slice[];
  private readonly high: readonly Slice[];
  private readonly lowCount: number;
  private readonly highCount: number;
  /** Length of one vector's codes. */
  readonly codesLength: number;

  /** @param layers of the bucket, in order, counted from its first value */
  constructor(layers: readonly Rounding[]) {
    this.low = stretches(layers.filter(({ bfloat16 }) => bfloat16));
    this.high = stretches(layers.filter(({ bfloat16 }) => !bfloat16));
    this.lowCount = total(this.low);
    this.highCount = total(this.high);
    this.codesLength = this.low.reduce((sum, { size }) => sum + packedLength(size), 0);
  }

  /** Length of a bucket that is written whole. */
  get wholeLength(): number {
    return 2 * (this.codesLength + this.highCount);
  }

  /** Length of the float32 values that differences begin with. */
  get exactLength(): number {
    return 2 * this.highCount;
  }

  /** Bytes of the codes of θq and θk. */
  get codesBytes(): number {
    return 2 * VALUE_BYTES * this.codesLength;
  }

  /** θq's codes, then the rest of it, then θk's. The vector is the caller's until it is released. */
  whole(arena: VectorArena, weights: BucketWeights): Written {
    const vector = arena.take(this.wholeLength);
    let at = 0;
    for (const values of [weights.query, weights.key]) {
      this.pack(arena, values, vector.subarray(at, at + this.codesLength));
      at += this.codesLength;
      at = this.putExact(values, vector, at);
    }
    return { vector, length: vector.length };
  }

  /** @param codes written: `[codesLength]` */
  pack(arena: VectorArena, values: Float32Array, codes: Float32Array): void {
    for (const [stretch, own] of this.withCodes(codes)) arena.pack(sliceOf(values, stretch), own);
  }

  /** The reverse of `whole`, into `weights`. @param written `[wholeLength]` */
  unpack(arena: VectorArena, written: Float32Array, weights: BucketWeights): void {
    let at = 0;
    for (const values of [weights.query, weights.key]) {
      const codes = written.subarray(at, at + this.codesLength);
      for (const [stretch, own] of this.withCodes(codes)) arena.unpack(own, sliceOf(values, stretch));
      at += this.codesLength;
      at = this.takeExact(written, at, values);
    }
  }

  /**
   * The float32 values of θq and of θk, then how the others differ from `codes`, which become theirs. The vector is the caller's
   * until it is released.
   */
  differences(arena: VectorArena, weights: BucketWeights, codes: BucketWeights): Written {
    const vector = arena.take(this.exactLength + differencesLength(2 * this.lowCount));
    let at = this.putExact(weights.query, vector, 0);
    at = this.putExact(weights.key, vector, at) * VALUE_BYTES;
    for (const part of ["query", "key"] as const) {
      for (const [stretch, own] of this.withCodes(codes[part]))
        at = arena.encode(sliceOf(weights[part], stretch), own, vector, at);
    }
    return { vector, length: Math.ceil(at / VALUE_BYTES) };
  }

  /**
   * The reverse: `next ← before` with the differences.
   * @param written its first `length` values are what `differences` wrote
   * @returns whether they are whole
   */
  follow(arena: VectorArena, { vector, length }: Written, before: BucketWeights, next: BucketWeights): boolean {
    let exact = this.takeExact(vector, 0, next.query);
    exact = this.takeExact(vector, exact, next.key);
    let at: number | null = exact * VALUE_BYTES;
    const end = length * VALUE_BYTES;
    for (const part of ["query", "key"] as const) {
      for (const stretch of this.low) {
        const [old, own] = [sliceOf(before[part], stretch), sliceOf(next[part], stretch)];
        at = arena.decode(old, vector, at, end, own);
        if (at === null) return false;
      }
    }
    return Math.ceil(at / VALUE_BYTES) === length;
  }

  private *withCodes(codes: Float32Array): Generator<readonly [Slice, Float32Array]> {
    let at = 0;
    for (const stretch of this.low) {
      const length = packedLength(stretch.size);
      yield [stretch, codes.subarray(at, at + length)];
      at += length;
    }
  }

  private putExact(values: Float32Array, target: Float32Array, at: number): number {
    for (const stretch of this.high) {
      target.set(sliceOf(values, stretch), at);
      at += stretch.size;
    }
    return at;
  }

  private takeExact(source: Float32Array, at: number, values: Float32Array): number {
    for (const { offset, size } of this.high) {
      values.set(source.subarray(at, at + size), offset);
      at += size;
    }
    return at;
  }
}

/** Layers that lie one behind another are one stretch. */
function stretches(layers: readonly Slice[]): readonly Slice[] {
  const merged: { offset: number; size: number }[] = [];
  for (const { offset, size } of layers) {
    const last = merged.at(-1);
    if (last !== undefined && last.offset + last.size === offset) last.size += size;
    else merged.push({ offset, size });
  }
  return merged;
}

function total(slices: readonly Slice[]): number {
  return slices.reduce((sum, { size }) => sum + size, 0);
}
