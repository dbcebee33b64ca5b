/** Memory that the aggregator and workers on its machine share: each maps the other's, so weights are not copied, and gradients once. */
import { optimizerVectors } from "../src/config/optimizer.js";
import { gradientLength, slotLength, slotVectors } from "../src/models/exchange.js";
import { MOST_ARENA_BYTES, rootLevel, type VectorArena } from "../src/optim/index.js";
import { pagedBytes, SharedSegment, type SegmentAddress } from "../src/transport/index.js";
import type { AggregatorOptions, ShardLengths, TrainingState, WeightsMemory } from "./aggregator.js";
import type { Segment } from "./data-plane.js";

type Weights = Pick<TrainingState, "query" | "key" | "queryBuffers">;

/** Weights of states in a segment of ours, cut into slots: one for each state that is in use. */
export class SharedWeights implements WeightsMemory {
  private slots = 0;
  /** slot of each state's weights, by their θq; null: there was no room for one */
  private readonly slotOfQuery = new Map<Float32Array, number | null>();
  private readonly free: Weights[] = [];

  private constructor(
    private readonly layout: ShardLengths,
    private readonly arena: VectorArena,
    private readonly segment: SharedSegment,
  ) {}

  /** @returns null where this system has no memory to share */
  static create(layout: ShardLengths, arena: VectorArena): SharedWeights | null {
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

/** Where workers on this machine leave their gradients, in the arena that the aggregator's kernels work in. */
export class SharedGradients {
  private mappedBytes = 0;

  /** @param mostBytes of the arena that they may take; further workers' gradients travel as frames */
  constructor(
    private readonly layout: ShardLengths,
    private readonly arena: VectorArena,
    private readonly mostBytes: number,
  ) {}

  /** @returns null where the worker is on another machine, or there is no more room */
  open(offered: SegmentAddress): Segment | null {
    const length = gradientLength(this.layout);
    const bytes = pagedBytes(length);
    if (this.mappedBytes + bytes > this.mostBytes) return null;
    const segment = SharedSegment.open(offered, bytes);
    if (segment === null) return null;
    const gradient = this.arena.map(length, segment.file, segment.position(0));
    segment.close();
    this.mappedBytes += bytes;
    return {
      gradient,
      close: () => {
        this.arena.unmap(gradient);
        this.mappedBytes -= bytes;
      },
    };
  }
}

/** States in use at a time: the one of now, and the next where that one is being sent or stored; … */
const STATES = 2;
/** … and one that a worker which does not keep up has on its way. */
const STATES_WITH_THE_SLOW = 3;

/** Codes of θq and θk in bfloat16, in values for each parameter: those of the version before, and what is on its way. */
const CODES = 2;

/** What an aggregator's memory depends on. */
export interface Demand {
  readonly worldSize: number;
  /** that each state has */
  readonly optimizerVectors: number;
  /** whether weights travel in bfloat16 */
  readonly bfloat16: boolean;
}

export function demandOf({
  rule,
  layers,
  worldSize,
}: Pick<AggregatorOptions, "rule" | "layers" | "worldSize">): Demand {
  const bfloat16 = layers.some((layer) => layer.bfloat16);
  return { worldSize, optimizerVectors: optimizerVectors(rule.kind).length, bfloat16 };
}

/** What an aggregator needs of its arena for states, sums and codes, in bytes. */
export function neededBytes(
  layout: ShardLengths,
  { worldSize, optimizerVectors, bfloat16 }: Demand,
  states = STATES,
): number {
  const { parameterCount, bufferCount } = layout;
  const state = slotLength(layout) + optimizerVectors * parameterCount + bufferCount;
  const sums = (rootLevel(worldSize) + 2) * gradientLength(layout);
  const codes = bfloat16 ? CODES * parameterCount : 0;
  return Float32Array.BYTES_PER_ELEMENT * (states * state + sums + codes);
}

/** What an aggregator's arena has left for workers' gradients, in bytes. */
export function spareBytes(layout: ShardLengths, demand: Demand): number {
  return MOST_ARENA_BYTES - neededBytes(layout, demand, STATES_WITH_THE_SLOW);
}
