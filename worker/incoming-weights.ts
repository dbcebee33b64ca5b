/** One shard of the weights as it arrives at a worker: bucket by bucket, one vector in use while the next version fills the other, or in shared memory. */
import { weightsParts } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { sliceOf, type Slice } from "../src/models/shards.js";
import type { VectorArena } from "../src/optim/index.js";
import { fromFrames } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { Weights } from "../src/protocol/wire.js";
import type { SharedExchange } from "./shared-exchange.js";

/** The parts of a version, float32, in memory that threads share. */
export interface WeightVectors {
  /** θq and θk */
  readonly query: Float32Array;
  readonly key: Float32Array;
  /** running batch-norm statistics of the query encoder */
  readonly buffers: Float32Array;
}

export interface WholeWeights {
  readonly version: number;
  /** unwritten until the version after the next begins to arrive or, in shared memory, until it is acknowledged */
  readonly vectors: WeightVectors;
}

/** Vectors of this process alone, which frames fill. */
interface OwnVectors {
  readonly vectors: WeightVectors;
  /** of each bucket */
  readonly slices: readonly Pick<WeightVectors, "query" | "key">[];
}

const NOTHING: WeightVectors = {
  query: new Float32Array(0),
  key: new Float32Array(0),
  buffers: new Float32Array(0),
};

export class IncomingWeights {
  private memory: SharedExchange | null = null;
  private held: WholeWeights = { version: -1, vectors: NOTHING };
  /** what holds the version before while frames fill the other; null: no frames have come yet */
  private own: { readonly before: OwnVectors; readonly filling: OwnVectors } | null = null;
  private arriving = { version: -1, buckets: new Set<number>() };

  constructor(
    private readonly layout: ParameterLayout,
    private readonly arena: VectorArena,
    /** how it is cut */
    private readonly buckets: readonly Slice[],
  ) {}

  /** The last version that was whole; −1: none yet. */
  get whole(): WholeWeights {
    return this.held;
  }

  /** A new connection: what has come of a version by the one before is void. @param memory shared with the aggregator */
  restart(memory: SharedExchange | null): void {
    // What lies in memory that was shared is no longer ours to look at.
    if (this.held.vectors !== this.own?.before.vectors) this.held = { version: -1, vectors: NOTHING };
    this.memory = memory;
    this.arriving = { version: -1, buckets: new Set() };
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
    this.held = { version, vectors: this.memory.weightsIn(slot) };
    return this.held;
  }

  private takeBucket(header: Weights, version: number, frames: readonly Uint8Array[]): WholeWeights | null {
    const keyMomentum = momentumOf(header);
    const number = header.bucket ?? 0;
    const bucket = this.buckets[number];
    if (bucket === undefined) throw new WireError(`bucket ${String(number)} of ${String(this.buckets.length)}`);
    this.own ??= { before: this.newVectors(), filling: this.newVectors() };
    const { before, filling } = this.own;
    if (keyMomentum !== null && (version !== this.held.version + 1 || this.held.vectors !== before.vectors)) {
      throw new WireError(
        `weights ${String(version)} build on those before, and ${String(this.held.version)} are here`,
      );
    }
    if (version !== this.arriving.version) this.arriving = { version, buckets: new Set() };
    const slices = filling.slices[number];
    const parts = weightsParts(this.layout, bucket, number, keyMomentum !== null).map(({ name }) =>
      name === "buffers" ? filling.vectors.buffers : slices[name],
    );
    this.memory?.decline();
    fromFrames(frames, ...parts);
    if (keyMomentum !== null) this.arena.mix(before.slices[number].key, slices.query, keyMomentum, slices.key);
    this.arriving.buckets.add(number);
    if (this.arriving.buckets.size < this.buckets.length) return null;
    this.own = { before: filling, filling: before };
    this.held = { version, vectors: filling.vectors };
    return this.held;
  }

  /** Nothing of it is looked at any more. */
  close(): void {
    for (const own of this.own === null ? [] : [this.own.before, this.own.filling]) {
      const { query, key, buffers } = own.vectors;
      for (const vector of [query, key, buffers]) this.arena.release(vector);
    }
    this.own = null;
  }

  private newVectors(): OwnVectors {
    const { parameterCount, bufferCount } = this.layout;
    const [query, key] = [this.arena.take(parameterCount), this.arena.take(parameterCount)];
    const slices = this.buckets.map((bucket) => ({ query: sliceOf(query, bucket), key: sliceOf(key, bucket) }));
    return { vectors: { query, key, buffers: this.arena.take(bufferCount) }, slices };
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

/** m by which θk follows; null: θk comes too */
function momentumOf({ keyMomentum }: Weights): number | null {
  if (keyMomentum === null || keyMomentum === undefined) return null;
  if (keyMomentum >= 0 && keyMomentum <= 1) return keyMomentum;
  throw new WireError(`a key momentum of ${String(keyMomentum)}`);
}
