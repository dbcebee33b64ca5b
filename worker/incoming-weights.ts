/** Weights as they arrive at a worker, shard by shard: one vector is in use while the next version fills the other. */
import { weightsLength, weightsPlaces, type Place } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { parameterShards } from "../src/models/shards.js";
import { VectorArena } from "../src/optim/index.js";
import { fromFrames } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { Weights } from "../src/protocol/wire.js";
import type { SharedExchange } from "./shared-exchange.js";

/** A whole version: float32 θq, θk, query buffers. */
export interface WholeWeights {
  readonly version: number;
  /** in shared memory, on a cache line; unwritten until the version after the next */
  readonly vector: Float32Array;
}

export class IncomingWeights {
  private readonly arena = new VectorArena();
  private readonly shards;
  private held: WholeWeights;
  private filling: Float32Array;
  private arriving = { version: -1, shards: new Set<number>() };

  /** @param keyMomentum m of the key encoder's momentum update */
  constructor(
    private readonly layout: ParameterLayout,
    private readonly keyMomentum: number,
    private readonly memory: SharedExchange | null,
  ) {
    this.shards = parameterShards(layout);
    this.held = { version: -1, vector: this.arena.take(weightsLength(layout)) };
    this.filling = this.arena.take(weightsLength(layout));
  }

  /**
   * @returns the version, once its last shard has come; null before
   * @throws WireError where the message does not fit the model, or what it builds on is not here
   */
  take(header: Weights, frames: readonly Uint8Array[]): WholeWeights | null {
    const { shared, keyFollows } = header;
    const [version, number] = [header.version ?? 0, header.shard ?? 0];
    const shard = this.shards[number];
    if (shard === undefined) throw new WireError(`shard ${String(number)} of ${String(this.shards.length)}`);
    if (keyFollows === true && version !== this.held.version + 1) {
      throw new WireError(
        `weights ${String(version)} build on those before, and ${String(this.held.version)} are here`,
      );
    }
    if (version !== this.arriving.version) this.arriving = { version, shards: new Set() };
    const { filling } = this;
    const cut = (vector: Float32Array, { offset, size }: Place) => vector.subarray(offset, offset + size);
    const places = weightsPlaces(this.layout, shard, number, keyFollows === true);
    if (shared !== true) {
      this.memory?.decline();
      fromFrames(frames, ...places.map((place) => cut(filling, place)));
    } else if (this.memory !== null) this.memory.readWeights(filling, places);
    else throw new WireError("weights in memory that is not shared");
    if (keyFollows === true) {
      const place = { offset: this.layout.parameterCount + shard.offset, size: shard.size };
      this.arena.mix(cut(this.held.vector, place), cut(filling, shard), this.keyMomentum, cut(filling, place));
    }
    this.arriving.shards.add(number);
    if (this.arriving.shards.size < this.shards.length) return null;
    this.filling = this.held.vector;
    this.held = { version, vector: filling };
    return this.held;
  }
}
