/** Weights of states in memory that workers on this machine map: a segment cut into slots, one for each state that is in use. */
import { slotLength, slotVectors } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import type { VectorArena } from "../src/optim/index.js";
import { pagedBytes, SharedSegment, type SegmentAddress } from "../src/transport/index.js";
import type { TrainingState, WeightsMemory } from "./aggregator.js";

type Weights = Pick<TrainingState, "query" | "key" | "queryBuffers">;

export class SharedWeights implements WeightsMemory {
  private slots = 0;
  /** slot of each state's weights, by their θq; null: there was no room for one */
  private readonly slotOfQuery = new Map<Float32Array, number | null>();
  private readonly free: Weights[] = [];

  private constructor(
    private readonly layout: ParameterLayout,
    private readonly arena: VectorArena,
    private readonly segment: SharedSegment,
  ) {}

  /** @returns null where this system has no memory to share */
  static create(layout: ParameterLayout, arena: VectorArena): SharedWeights | null {
    const segment = SharedSegment.create(0);
    return segment === null ? null : new SharedWeights(layout, arena, segment);
  }

  get address(): SegmentAddress {
    return this.segment.address;
  }

  /** @returns null where the state's weights are not shared */
  slotOf({ query }: Weights): number | null {
    return this.slotOfQuery.get(query) ?? null;
  }

  take(): Weights {
    const used = this.free.pop();
    if (used !== undefined) return used;
    const length = slotLength(this.layout);
    const bytes = pagedBytes(length);
    const isShared = this.segment.grow(bytes);
    const place = isShared
      ? this.arena.map(length, this.segment.file, this.segment.position(this.slots * bytes))
      : this.arena.take(length);
    const { query, key, buffers } = slotVectors(this.layout, place);
    this.slotOfQuery.set(query, isShared ? this.slots++ : null);
    return { query, key, queryBuffers: buffers };
  }

  release({ query, key, queryBuffers }: Weights): void {
    this.free.push({ query, key, queryBuffers });
  }
}
