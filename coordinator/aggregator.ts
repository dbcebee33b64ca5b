/**
 * An aggregator owns one parameter shard: it sums the ranks' gradients by the fixed tree, applies the optimizer in fp32 and lets
 * the key encoder follow, bucket by bucket. Nothing in here knows of other shards, or of sockets.
 */
import { optimizerVectors, type UpdateRule } from "../src/config/optimizer.js";
import { BATCH_NORM_MOMENTUM } from "../src/models/constants.js";
import { gradientLength, roundedLength, type GradientType } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { sliceOf, type Slice } from "../src/models/shards.js";
import {
  isNode,
  layersIn,
  layerSquares,
  packedLength,
  ranksUnder,
  SumTree,
  update,
  VectorArena,
  type LayerSlice,
  type TreeNode,
} from "../src/optim/index.js";
import { fromFrames } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";

/** Lengths of a shard's vectors in values. */
export type ShardLengths = Pick<ParameterLayout, "parameterCount" | "bufferCount">;

export interface AggregatorOptions {
  readonly layout: ShardLengths;
  /** how the shard is cut */
  readonly buckets: readonly Slice[];
  readonly worldSize: number;
  readonly gradients: GradientType;
  readonly rule: UpdateRule;
  /** the parameters, one slice each, in order */
  readonly layers: readonly LayerSlice[];
}

/** Numbers that change from update to update. */
export interface StepRates {
  readonly learningRate: number;
  /** m of the key encoder's momentum update */
  readonly keyMomentum: number;
}

export interface UpdateRates extends StepRates {
  /** what the mean gradient is multiplied by: see `clipFactor` */
  readonly clip: number;
}

/** Everything that training changes, the queue aside. */
export interface TrainingState {
  /** number of steps taken, skipped ones included */
  readonly version: number;
  /** number of updates made: steps that were not skipped */
  readonly updates: number;
  /** θq and θk, float32 `[P]` */
  readonly query: Float32Array;
  readonly key: Float32Array;
  /** the optimizer's vectors, float32 `[P]` each, in `optimizerVectors`' order */
  readonly optimizer: readonly Float32Array[];
  /** running batch-norm statistics of either encoder, float32 `[bufferCount]` */
  readonly queryBuffers: Float32Array;
  readonly keyBuffers: Float32Array;
}

/** Where a state's weights lie. */
export interface WeightsMemory {
  take(): Pick<TrainingState, "query" | "key" | "queryBuffers">;
  /** nobody looks at them any more */
  release(weights: Pick<TrainingState, "query" | "key" | "queryBuffers">): void;
}

/** Everything but the counts, always in the same order. */
export function vectorsOf({ query, key, optimizer, queryBuffers, keyBuffers }: TrainingState): readonly Float32Array[] {
  return [query, key, ...optimizer, queryBuffers, keyBuffers];
}

function copyInto(target: TrainingState, source: TrainingState): void {
  const sources = vectorsOf(source);
  vectorsOf(target).forEach((vector, index) => {
    vector.set(sources[index]);
  });
}

export class Aggregator {
  /** layers of each bucket, counted from its first value */
  private readonly layers: readonly (readonly LayerSlice[])[];
  private readonly tree: SumTree;
  /** values of a gradient that are bfloat16 */
  private readonly rounded: number;
  private current: TrainingState;
  /** versions in use by others, and how often; their vectors are not written */
  private readonly held = new Map<number, { readonly state: TrainingState; holders: number }>();
  /** what waits until nothing of the open step is needed any more */
  private readonly whenCleared: (() => void)[] = [];
  /** gradients that came twice, or for another step: counted, never used */
  ignored = 0;

  /** @param initial copied */
  constructor(
    private readonly options: AggregatorOptions,
    initial: TrainingState,
    private readonly arena = new VectorArena(),
    private readonly weights: WeightsMemory = inArena(options.layout, arena),
  ) {
    this.rounded = roundedLength(options.layout, options.gradients);
    this.tree = new SumTree(options.worldSize, arena, this.rounded);
    this.layers = this.buckets.map((bucket) => layersIn(options.layers, bucket));
    this.current = this.newState(initial.version, initial.updates);
    copyInto(this.current, initial);
  }

  get buckets(): readonly Slice[] {
    return this.options.buckets;
  }

  get state(): TrainingState {
    return this.current;
  }

  /**
   * Keeps a state unwritten until `release` is called as often: whoever sends or stores it holds it meanwhile, and updates
   * write elsewhere, not in place.
   * @param state the one of now, or the one that an update under way is making
   */
  hold(state: TrainingState = this.current): TrainingState {
    const entry = this.held.get(state.version) ?? { state, holders: 0 };
    entry.holders++;
    this.held.set(state.version, entry);
    return state;
  }

  release(version: number): void {
    const entry = this.held.get(version);
    if (entry === undefined) return;
    entry.holders--;
    if (entry.holders > 0) return;
    this.held.delete(version);
    if (version !== this.current.version) this.recycle(entry.state);
  }

  /**
   * Takes the sum of one node of step `step`'s tree; a second copy, or one of another step, changes nothing.
   * @param source fills a vector, called only where it is wanted; or a vector of the arena's that was mapped, which the tree has from now on
   *   until the step is over
   * @returns the ranks under the node; null where nothing changed
   * @throws WireError where the node is not in the tree, or `source` does
   */
  accept(
    step: number,
    node: TreeNode,
    source: Float32Array | ((target: Float32Array) => void),
  ): readonly number[] | null {
    if (!isNode(node, this.options.worldSize)) {
      throw new WireError(`gradient of node ${String(node.level)}/${String(node.index)}, which no rank is under`);
    }
    if (step !== this.current.version || this.tree.covers(node)) {
      this.ignored++;
      return null;
    }
    this.tree.add(node, typeof source === "function" ? this.read(source) : source);
    const { first, end } = ranksUnder(node, this.options.worldSize);
    return Array.from({ length: end - first }, (_, index) => first + index);
  }

  /**
   * A gradient as it has travelled.
   * @param target float32 `[gradientLength]`
   * @throws WireError where the frames are no gradient of the shard
   */
  unpack(frames: readonly Uint8Array[], target: Float32Array): void {
    const { arena, rounded } = this;
    if (rounded === 0) {
      fromFrames(frames, target);
      return;
    }
    const codes = arena.take(packedLength(rounded));
    try {
      fromFrames(frames, codes, target.subarray(rounded));
      arena.unpack(codes, target.subarray(0, rounded));
    } finally {
      arena.release(codes);
    }
  }

  private read(fill: (target: Float32Array) => void): Float32Array {
    const vector = this.arena.take(gradientLength(this.options.layout));
    try {
      fill(vector);
      return vector;
    } catch (error) {
      this.arena.release(vector);
      throw error;
    }
  }

  /** Σ gradient² of each layer, where the gradient is the mean over the ranks. @throws WireError where ranks are missing */
  squares(): readonly number[] {
    const { layers, worldSize } = this.options;
    return layerSquares(this.arena, this.sum(), layers, 1 / worldSize);
  }

  private sum(): Float32Array {
    const sum = this.tree.root();
    if (sum === null) throw new WireError(`step ${String(this.current.version)} was applied with ranks missing`);
    return sum;
  }

  /** Calls once no vector that was accepted by now is needed any more. */
  afterStep(done: () => void): void {
    if (this.tree.isEmpty) done();
    else this.whenCleared.push(done);
  }

  /**
   * One optimizer update from the summed gradients, bucket by bucket; opens the next step when the last is done. Each bucket of
   * the next state may be read as soon as its number comes, buffers with bucket 0.
   * @param keysAtOnce whether θk of a bucket is there with its number; otherwise it is when the last number has been taken
   * @throws WireError where ranks are missing
   */
  *apply(
    { learningRate, keyMomentum, clip }: UpdateRates,
    keysAtOnce = true,
  ): Generator<{ readonly next: TrainingState; readonly bucket: number }, void> {
    const { arena, current } = this;
    const { layout, worldSize, rule } = this.options;
    const sum = this.sum();

    const { parameterCount, bufferCount } = layout;
    const scale = 1 / worldSize;
    const next = this.nextState(current.updates + 1);
    const statistics = (start: number) => sum.subarray(start, start + bufferCount);
    const keep = 1 - BATCH_NORM_MOMENTUM;
    arena.mix(current.queryBuffers, statistics(parameterCount), keep, next.queryBuffers, scale);
    arena.mix(current.keyBuffers, statistics(parameterCount + bufferCount), keep, next.keyBuffers, scale);

    const step = { scale: scale * clip, learningRate, number: next.updates };
    for (const [bucket, place] of this.buckets.entries()) {
      const cut = (vector: Float32Array) => sliceOf(vector, place);
      const vectors = {
        parameters: cut(current.query),
        gradient: cut(sum),
        optimizer: current.optimizer.map(cut),
        nextParameters: cut(next.query),
        nextOptimizer: next.optimizer.map(cut),
      };
      update(arena, rule, vectors, this.layers[bucket], step);
      if (keysAtOnce) arena.mix(cut(current.key), cut(next.query), keyMomentum, cut(next.key));
      yield { next, bucket };
    }
    if (!keysAtOnce) arena.mix(current.key, next.query, keyMomentum, next.key);
    this.advance(next);
  }

  /** Leaves the step's update out: the next state holds what this one does. Opens the next step. */
  skip(): void {
    const { current } = this;
    const next = this.nextState(current.updates);
    if (next.query !== current.query) copyInto(next, current);
    this.advance(next);
  }

  private advance(next: TrainingState): void {
    const { current } = this;
    this.tree.clear();
    for (const done of this.whenCleared.splice(0)) done();
    this.current = next;
    if (next.query !== current.query && !this.held.has(current.version)) this.recycle(current);
  }

  /** Where the next state is to be written: over the one of now, where nobody reads that one. */
  private nextState(updates: number): TrainingState {
    const { current } = this;
    const version = current.version + 1;
    return this.held.has(current.version) ? this.newState(version, updates) : { ...current, version, updates };
  }

  private newState(version: number, updates: number): TrainingState {
    const { parameterCount, bufferCount } = this.options.layout;
    return {
      version,
      updates,
      ...this.weights.take(),
      optimizer: optimizerVectors(this.options.rule.kind).map(() => this.arena.take(parameterCount)),
      keyBuffers: this.arena.take(bufferCount),
    };
  }

  private recycle(state: TrainingState): void {
    this.weights.release(state);
    for (const vector of [...state.optimizer, state.keyBuffers]) this.arena.release(vector);
  }
}

function inArena({ parameterCount, bufferCount }: ShardLengths, arena: VectorArena): WeightsMemory {
  return {
    take: () => ({
      query: arena.take(parameterCount),
      key: arena.take(parameterCount),
      queryBuffers: arena.take(bufferCount),
    }),
    release: ({ query, key, queryBuffers }) => {
      for (const vector of [query, key, queryBuffers]) arena.release(vector);
    },
  };
}
