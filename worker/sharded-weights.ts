/** Weights as they arrive from several aggregators, each of which has a parameter shard. */
import type { ParameterLayout } from "../src/models/parameters.js";
import { packedBuckets, roundings } from "../src/models/packed-weights.js";
import { parameterBuckets } from "../src/models/buckets.js";
import { parameterShards, type ParameterShard } from "../src/models/shards.js";
import { VectorArena } from "../src/optim/index.js";
import { sha256OfFloats } from "../src/protocol/digest.js";
import type { Weights } from "../src/protocol/wire.js";
import { IncomingWeights, type PlacedWeights, type WeightVectors, type WholeWeights } from "./incoming-weights.js";
import type { SharedExchange } from "./shared-exchange.js";
import { ownSlots, type SlotMaker } from "./weight-slots.js";

/** A version of a shard that is here. */
export type Arrived = Pick<WholeWeights, "version" | "bandwidth">;

/** One version of the weights. @typeParam Vectors in which a shard lies */
export interface WeightsInShards<Vectors extends WeightVectors = PlacedWeights> {
  readonly version: number;
  /** in the order of the shards */
  readonly shards: readonly Vectors[];
}

export class ShardedWeights {
  private parts: readonly { readonly shard: ParameterShard; readonly incoming: IncomingWeights }[] = [];

  /**
   * @param takesBfloat16 whether the step rounds what it multiplies by
   * @param bucketsOf how a shard travels
   */
  constructor(
    private readonly layout: ParameterLayout,
    private readonly takesBfloat16: boolean,
    readonly arena = new VectorArena(),
    private readonly bucketsOf = (shard: ParameterLayout) => parameterBuckets(shard),
    private readonly newSlot: SlotMaker = ownSlots(arena),
  ) {}

  /** How θ is cut for so many aggregators. What is held stays where their number has not changed. */
  cut(count: number): readonly ParameterShard[] {
    if (this.parts.length !== count) {
      for (const { incoming } of this.parts) incoming.close();
      this.parts = parameterShards(this.layout, count).map((shard) => {
        const buckets = this.bucketsOf(shard.layout);
        const packed = this.takesBfloat16 ? packedBuckets(buckets, roundings(shard.layout.parameters)) : [];
        return { shard, incoming: new IncomingWeights(shard.layout, this.arena, buckets, packed, this.newSlot) };
      });
    }
    return this.parts.map(({ shard }) => shard);
  }

  /** See `IncomingWeights.restart`. @param memories shared with each aggregator; null: none */
  restart(memories: readonly (SharedExchange | null)[]): void {
    for (const [index, { incoming }] of this.parts.entries()) incoming.restart(memories[index] ?? null);
  }

  /**
   * @param aggregator number of its shard
   * @returns the version, once the shard's last bucket has come, and at what bandwidth; null before
   * @throws WireError as `IncomingWeights.take`
   */
  take(aggregator: number, header: Weights, frames: readonly Uint8Array[]): Arrived | null {
    return this.parts[aggregator].incoming.take(header, frames);
  }

  /** What is held, if all shards are of one version. */
  whole(): WeightsInShards | null {
    const held = this.parts.map(({ incoming }) => incoming.whole);
    const version = held[0]?.version ?? -1;
    if (version < 0 || held.some((own) => own.version !== version)) return null;
    return { version, shards: held.map(({ vectors }) => vectors) };
  }
}

/** hex sha256 of each shard's θq, θk and buffers, one after another */
export function digestsOf({ shards }: WeightsInShards): string[] {
  return shards.map(({ query, key, buffers }) => sha256OfFloats(query, key, buffers));
}
