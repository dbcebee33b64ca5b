/** One shard of the weights as it arrives at a worker: bucket by bucket, one vector in use while the next version fills the other, or in shared memory. */
import { slotLength, slotVectors, weightsParts } from "../src/models/exchange.js";
import type { PackedBucket } from "../src/models/packed-weights.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { sliceOf, type Slice } from "../src/models/shards.js";
import { CODING_SLACK, type VectorArena } from "../src/optim/index.js";
import { fromFrames } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { Weights } from "../src/protocol/wire.js";
import type { SharedExchange } from "./shared-exchange.js";
import { ownSlots, type SharedPlace, type SlotMaker, type WeightSlot } from "./weight-slots.js";

/** The parts of a version, float32, in memory that threads share. */
export interface WeightVectors {
  /** θq and θk */
  readonly query: Float32Array;
  readonly key: Float32Array;
  /** running batch-norm statistics of the query encoder */
  readonly buffers: Float32Array;
}

/** … and where other processes find them, as `slotVectors` lays them out; null: nowhere */
export interface PlacedWeights extends WeightVectors {
  readonly place: SharedPlace | null;
}

export interface WholeWeights {
  readonly version: number;
  /** unwritten until the version after the next begins to arrive or, in shared memory, until it is acknowledged */
  readonly vectors: PlacedWeights;
  /** at which its buckets have come, in bytes a second; null: not known */
  readonly bandwidth: number | null;
}

/** What has come of a version. */
interface Arriving {
  readonly version: number;
  readonly buckets: Set<number>;
  /** since when, in ms, and bytes since then; null: part of it was told as a difference */
  whole: { readonly from: number; bytes: number } | null;
}

/** Vectors which frames fill. */
interface OwnVectors {
  readonly slot: WeightSlot;
  readonly vectors: PlacedWeights;
  /** of each bucket */
  readonly slices: readonly Pick<WeightVectors, "query" | "key">[];
}

const NOTHING: PlacedWeights = {
  query: new Float32Array(0),
  key: new Float32Array(0),
  buffers: new Float32Array(0),
  place: null,
};

export class IncomingWeights {
  private memory: SharedExchange | null = null;
  private held: WholeWeights = { version: -1, vectors: NOTHING, bandwidth: null };
  /** what holds the version before while frames fill the other; null: no frames have come yet */
  private own: { readonly before: OwnVectors; readonly filling: OwnVectors } | null = null;
  private arriving: Arriving | null = null;

  constructor(
    private readonly layout: ParameterLayout,
    private readonly arena: VectorArena,
    /** how it is cut */
    private readonly buckets: readonly Slice[],
    /** each as it travels in bfloat16; none: it must not */
    private readonly packed: readonly PackedBucket[] = [],
    private readonly newSlot: SlotMaker = ownSlots(arena),
    /** monotonic clock in ms */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The last version that was whole; −1: none yet. */
  get whole(): WholeWeights {
    return this.held;
  }

  /** A new connection: what has come of a version by the one before is void. @param memory shared with the aggregator */
  restart(memory: SharedExchange | null): void {
    // What lies in memory that was shared is no longer ours to look at.
    if (this.held.vectors !== this.own?.before.vectors) this.held = { version: -1, vectors: NOTHING, bandwidth: null };
    this.memory = memory;
    this.arriving = null;
  }

  /**
   * @returns the version, once its last bucket has come; null before
   * @throws WireError where the message does not fit the model, or what it builds on is not here
   */
  take(header: Weights, frames: readonly Uint8Array[]): WholeWeights | null {
    const { slot } = header;
    const version = header.version ?? 0;
    if (header.unchanged === true) return this.renumber(version);
    if (typeof slot !== "number") return this.takeBucket(header, version, frames);
    if (this.memory === null) throw new WireError("weights in memory that is not shared");
    this.held = { version, vectors: this.memory.weightsIn(slot), bandwidth: null };
    return this.held;
  }

  private takeBucket(header: Weights, version: number, frames: readonly Uint8Array[]): WholeWeights | null {
    const number = header.bucket ?? 0;
    const bucket = this.buckets[number];
    if (bucket === undefined) throw new WireError(`bucket ${String(number)} of ${String(this.buckets.length)}`);
    this.own ??= { before: this.newVectors(), filling: this.newVectors() };
    if (this.arriving?.version !== version)
      this.arriving = { version, buckets: new Set(), whole: { from: this.now(), bytes: 0 } };
    const { arriving } = this;
    this.memory?.decline();
    if (header.bfloat16 === true) this.takePacked(header, version, number, frames);
    else this.takeFloats(header, version, number, frames);
    if (typeof header.difference === "number") arriving.whole = null;
    // Those of the first had come before there was anything to measure from.
    if (arriving.whole !== null && arriving.buckets.size > 0) arriving.whole.bytes += bytesOf(frames);
    arriving.buckets.add(number);
    if (arriving.buckets.size < this.buckets.length) return null;
    const { before, filling } = this.own;
    this.own = { before: filling, filling: before };
    this.arriving = null;
    this.held = { version, vectors: filling.vectors, bandwidth: bandwidthOf(arriving, this.now()) };
    return this.held;
  }

  private takeFloats(header: Weights, version: number, number: number, frames: readonly Uint8Array[]): void {
    const { before, filling } = this.vectors();
    const keyMomentum = momentumOf(header);
    if (keyMomentum !== null) this.expectBefore(version);
    const slices = filling.slices[number];
    const parts = weightsParts(this.layout, this.buckets[number], number, keyMomentum !== null).map(({ name }) =>
      name === "buffers" ? filling.vectors.buffers : slices[name],
    );
    fromFrames(frames, ...parts);
    if (keyMomentum !== null) this.arena.mix(before.slices[number].key, slices.query, keyMomentum, slices.key);
  }

  private takePacked({ difference }: Weights, version: number, number: number, frames: readonly Uint8Array[]): void {
    const { before, filling } = this.vectors();
    const { arena } = this;
    const packed = this.packed.at(number);
    if (packed === undefined) throw new WireError("weights in bfloat16 that nobody rounds");
    const differs = typeof difference === "number";
    if (differs) this.expectBefore(version);
    const length = differs ? difference : packed.wholeLength;
    if (length > packed.wholeLength) throw new WireError(`a difference of ${String(length)} values`);
    const vector = arena.take(packed.wholeLength + CODING_SLACK);
    try {
      fromFrames(frames, vector.subarray(0, length), ...(number === 0 ? [filling.vectors.buffers] : []));
      if (!differs) packed.unpack(arena, vector, filling.slices[number]);
      else if (!packed.follow(arena, { vector, length }, before.slices[number], filling.slices[number]))
        throw new WireError("a difference that is not whole");
    } finally {
      arena.release(vector);
    }
  }

  private vectors(): { readonly before: OwnVectors; readonly filling: OwnVectors } {
    if (this.own === null) throw new Error("weights were taken before there was room for them");
    return this.own;
  }

  /** What comes builds on the version before. */
  private expectBefore(version: number): void {
    if (version === this.held.version + 1 && this.held.vectors === this.vectors().before.vectors) return;
    throw new WireError(`weights ${String(version)} build on those before, and ${String(this.held.version)} are here`);
  }

  /** Nothing of it is looked at any more. */
  close(): void {
    for (const { slot } of this.own === null ? [] : [this.own.before, this.own.filling]) slot.release();
    this.own = null;
  }

  private newVectors(): OwnVectors {
    const slot = this.newSlot(slotLength(this.layout));
    const vectors = { ...slotVectors(this.layout, slot.values), place: slot.place };
    const { query, key } = vectors;
    const slices = this.buckets.map((bucket) => ({ query: sliceOf(query, bucket), key: sliceOf(key, bucket) }));
    return { slot, vectors, slices };
  }

  /** What is held is also `version`: it was confirmed, or the update was skipped. */
  private renumber(version: number): WholeWeights {
    if (version !== this.held.version && version !== this.held.version + 1) {
      throw new WireError(
        `weights ${String(this.held.version)} are here, which cannot be ${String(version)} unchanged`,
      );
    }
    this.held = { ...this.held, version };
    return this.held;
  }
}

function bytesOf(frames: readonly Uint8Array[]): number {
  return frames.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** @param now in ms @returns bytes a second; null: not known */
function bandwidthOf({ whole }: Arriving, now: number): number | null {
  return whole === null || whole.bytes === 0 || now <= whole.from ? null : (1000 * whole.bytes) / (now - whole.from);
}

/** m by which θk follows; null: θk comes too */
function momentumOf({ keyMomentum }: Weights): number | null {
  if (keyMomentum === null || keyMomentum === undefined) return null;
  if (keyMomentum >= 0 && keyMomentum <= 1) return keyMomentum;
  throw new WireError(`a key momentum of ${String(keyMomentum)}`);
}
