/** Weights as they arrive at a worker, shard by shard: one vector is in use while the next version fills the other. */
import { weightsParts } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { parameterShards, sliceOf, type ParameterShard } from "../src/models/shards.js";
import { VectorArena } from "../src/optim/index.js";
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
  /** unwritten until the version after the next begins to arrive */
  readonly vectors: WeightVectors;
}

interface SlicedVectors {
  readonly vectors: WeightVectors;
  /** of each shard */
  readonly slices: readonly Pick<WeightVectors, "query" | "key">[];
}

export class IncomingWeights {
  private memory: SharedExchange | null = null;
  private held: WholeWeights & SlicedVectors;
  private filling: SlicedVectors;
  private arriving = { version: -1, shards: new Set<number>() };

  constructor(
    private readonly layout: ParameterLayout,
    private readonly shards: readonly ParameterShard[] = parameterShards(layout),
    private readonly arena = new VectorArena(),
  ) {
    // Vectors of their own: the kernels may run over a vector's end.
    const take = (): SlicedVectors => {
      const query = this.arena.take(layout.parameterCount);
      const key = this.arena.take(layout.parameterCount);
      const slices = shards.map((shard) => ({ query: sliceOf(query, shard), key: sliceOf(key, shard) }));
      return { vectors: { query, key, buffers: this.arena.take(layout.bufferCount) }, slices };
    };
    this.held = { version: -1, ...take() };
    this.filling = take();
  }

  /** The last version that was whole; −1: none yet. */
  get whole(): WholeWeights {
    return this.held;
  }

  /** A new connection: what has come of a version by the one before is void. @param memory shared with the aggregator */
  restart(memory: SharedExchange | null): void {
    this.memory = memory;
    this.arriving = { version: -1, shards: new Set() };
  }

  /**
   * @returns the version, once its last shard has come; null before
   * @throws WireError where the message does not fit the model, or what it builds on is not here
   */
  take(header: Weights, frames: readonly Uint8Array[]): WholeWeights | null {
    const { shared } = header;
    const keyMomentum = momentumOf(header);
    const [version, number] = [header.version ?? 0, header.shard ?? 0];
    if (header.unchanged === true) return this.renumber(version);
    const shard = this.shards[number];
    if (shard === undefined) throw new WireError(`shard ${String(number)} of ${String(this.shards.length)}`);
    if (keyMomentum !== null && version !== this.held.version + 1) {
      throw new WireError(
        `weights ${String(version)} build on those before, and ${String(this.held.version)} are here`,
      );
    }
    if (version !== this.arriving.version) this.arriving = { version, shards: new Set() };
    const { filling } = this;
    const [before, slices] = [this.held.slices[number], filling.slices[number]];
    const parts = weightsParts(this.layout, shard, number, keyMomentum !== null).map(({ name, position }) => ({
      position,
      vector: name === "buffers" ? filling.vectors.buffers : slices[name],
    }));
    if (shared !== true) {
      this.memory?.decline();
      fromFrames(frames, ...parts.map(({ vector }) => vector));
    } else if (this.memory !== null) this.memory.readWeights(parts);
    else throw new WireError("weights in memory that is not shared");
    if (keyMomentum !== null) this.arena.mix(before.key, slices.query, keyMomentum, slices.key);
    this.arriving.shards.add(number);
    if (this.arriving.shards.size < this.shards.length) return null;
    this.filling = this.held;
    this.held = { ...filling, version };
    return this.held;
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
