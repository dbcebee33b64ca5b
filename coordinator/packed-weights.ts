/**
 * Weights on their way in bfloat16 (see `PackedBucket`): whole, or as the difference from the version before, made once for all
 * who are sent it, and kept until the last of them has it.
 */
import {
  packedBuckets,
  roundedWeights,
  type BucketWeights,
  type PackedBucket,
  type Written,
} from "../src/models/packed-weights.js";
import { sliceOf, type Slice } from "../src/models/shards.js";
import type { LayerSlice, VectorArena } from "../src/optim/index.js";
import type { TrainingState } from "./aggregator.js";

/** A bucket as it travels. */
export interface PackedForm {
  readonly written: Written;
  /** whether it is the difference from the version before */
  readonly differs: boolean;
}

/** What is on its way of a version. */
interface Outgoing {
  holders: number;
  readonly whole: (Written | undefined)[];
  readonly differences: (Written | undefined)[];
  buffers: Float32Array | null;
}

/** Of so many versions one is sent whole to everybody, which also tells at what bandwidth. */
const WHOLE_EVERY = 256;

/** Of the latest version's coding: how much counts of what was measured before. */
const MEMORY = 0.9;

export class PackedWeights {
  private readonly packed: readonly PackedBucket[];
  private readonly outgoing = new Map<number, Outgoing>();
  /** codes of each bucket's last version of which there are any; null: none yet */
  private base: readonly (BucketWeights & { version: number })[] | null = null;
  /** time that coding takes, and length of what it writes, for each byte of codes; null: not measured yet */
  private measured: { readonly msPerByte: number; readonly share: number } | null = null;

  constructor(
    private readonly arena: VectorArena,
    private readonly buckets: readonly Slice[],
    private readonly layers: readonly LayerSlice[],
    /** monotonic clock in ms */
    private readonly now: () => number,
  ) {
    this.packed = packedBuckets(buckets, layers);
  }

  /** What `use` makes of θq and θk as a worker has them that was sent them so. */
  withRounded<Result>({ query, key }: TrainingState, use: (weights: BucketWeights) => Result): Result {
    const [roundedQuery, roundedKey] = [query, key].map((values) => roundedWeights(this.arena, values, this.layers));
    try {
      return use({ query: roundedQuery, key: roundedKey });
    } finally {
      for (const vector of [roundedQuery, roundedKey]) this.arena.release(vector);
    }
  }

  /** Whoever is sent a version holds it until it has it. */
  hold(version: number): void {
    this.of(version).holders++;
  }

  release(version: number): void {
    const outgoing = this.outgoing.get(version);
    if (outgoing === undefined) return;
    outgoing.holders--;
    if (outgoing.holders > 0) return;
    this.outgoing.delete(version);
    for (const written of [...outgoing.whole, ...outgoing.differences]) {
      if (written !== undefined) this.arena.release(written.vector);
    }
    if (outgoing.buffers !== null) this.arena.release(outgoing.buffers);
  }

  /** A bucket of a version that is held. */
  whole(state: TrainingState, bucket: number): PackedForm {
    const { whole } = this.of(state.version);
    const written = (whole[bucket] ??= this.packed[bucket].whole(this.arena, this.weights(state, bucket)));
    return { written, differs: false };
  }

  /** The same for those who have the version before; whole now and then, and where its codes are not known or the difference is no shorter. */
  difference(state: TrainingState, bucket: number): PackedForm {
    const base = this.bases()[bucket];
    if (base.version !== state.version) this.follow(state, bucket);
    const written = this.of(state.version).differences[bucket];
    return written === undefined ? this.whole(state, bucket) : { written, differs: true };
  }

  /** Copied, since nothing keeps the state as it is: float32 `[bufferCount]`. */
  buffers({ version, queryBuffers }: TrainingState): Float32Array {
    const outgoing = this.of(version);
    if (outgoing.buffers === null) {
      outgoing.buffers = this.arena.take(queryBuffers.length);
      outgoing.buffers.set(queryBuffers);
    }
    return outgoing.buffers;
  }

  /** A version that holds what the one before does. */
  skipped(version: number): void {
    for (const base of this.base ?? []) if (base.version === version - 1) base.version = version;
  }

  /**
   * Whether a difference is at the worker sooner than the whole. Decoding takes less time than coding does.
   * @param bandwidth at which the whole has reached it, in bytes a second; null: not known
   */
  pays(bandwidth: number | null): boolean {
    if (this.measured === null || bandwidth === null) return true;
    const { msPerByte, share } = this.measured;
    return (1 - share) / bandwidth > (2 * msPerByte) / 1000;
  }

  private follow(state: TrainingState, bucket: number): void {
    const [packed, base, weights] = [this.packed[bucket], this.bases()[bucket], this.weights(state, bucket)];
    if (base.version !== state.version - 1 || state.version % WHOLE_EVERY === 0) {
      packed.pack(this.arena, weights.query, base.query);
      packed.pack(this.arena, weights.key, base.key);
    } else {
      const start = this.now();
      const written = packed.differences(this.arena, weights, base);
      this.measure(packed, this.now() - start, written.length);
      if (written.length < packed.wholeLength) this.of(state.version).differences[bucket] = written;
      else this.arena.release(written.vector);
    }
    base.version = state.version;
  }

  private measure({ codesBytes, exactLength }: PackedBucket, ms: number, length: number): void {
    if (codesBytes === 0) return;
    const now = { msPerByte: ms / codesBytes, share: (4 * (length - exactLength)) / codesBytes };
    const before = this.measured ?? now;
    this.measured = {
      msPerByte: MEMORY * before.msPerByte + (1 - MEMORY) * now.msPerByte,
      share: MEMORY * before.share + (1 - MEMORY) * now.share,
    };
  }

  private bases(): NonNullable<PackedWeights["base"]> {
    return (this.base ??= this.packed.map(({ codesLength }) => ({
      version: -1,
      query: this.arena.take(codesLength),
      key: this.arena.take(codesLength),
    })));
  }

  private weights({ query, key }: TrainingState, bucket: number): BucketWeights {
    const place = this.buckets[bucket];
    return { query: sliceOf(query, place), key: sliceOf(key, place) };
  }

  private of(version: number): Outgoing {
    let outgoing = this.outgoing.get(version);
    if (outgoing === undefined) {
      outgoing = { holders: 0, whole: [], differences: [], buffers: null };
      this.outgoing.set(version, outgoing);
    }
    return outgoing;
  }
}
