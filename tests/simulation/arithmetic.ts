/**
 * Arithmetic in place of a network's: every value that a rank gives depends on every bit that it should depend on, so whoever
 * computes with anything else than the step's own weights, queue and samples gives other bits, and the run ends with others.
 */
import { Aggregator, type StepRates, type TrainingState } from "../../coordinator/aggregator.js";
import type { RunPlan } from "../../coordinator/run-state.js";
import { optimizerVectors } from "../../src/config/optimizer.js";
import { gradientLength, roundedLength, type GradientType } from "../../src/models/exchange.js";
import { roundedWeights, roundings } from "../../src/models/packed-weights.js";
import type { ParameterLayout } from "../../src/models/parameters.js";
import { parameterBuckets } from "../../src/models/buckets.js";
import { layerSlices } from "../../src/models/treatment.js";
import { KeyQueue } from "../../src/objectives/key-queue.js";
import { clipFactor, VectorArena } from "../../src/optim/index.js";

/** Three parameters, so that there may be three aggregators, and the weights of one may travel in buckets. */
export const LAYOUT: ParameterLayout = {
  parameters: [
    { name: "a", shape: [3, 1], role: "dense", offset: 0, size: 3 },
    { name: "b", shape: [2], role: "norm-shift", offset: 3, size: 2 },
    { name: "d", shape: [1, 2], role: "dense", offset: 5, size: 2 },
  ],
  buffers: [{ name: "c", statistic: "mean", offset: 0, size: 1 }],
  parameterCount: 7,
  bufferCount: 1,
};
export const bucketsOf = (layout: ParameterLayout) => parameterBuckets(layout, 1);
/** The optimizer with the most state: two vectors and the number of updates. */
export const RULE = { kind: "adamw", weightDecay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-4 } as const;
const GRADIENT = gradientLength(LAYOUT);
export const QUEUE_SIZE = 21;
/** One memory for all parties of a thread: vectors are small, and a WebAssembly memory each would cost more than the run. */
export const arena = new VectorArena();

export interface Weights {
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly buffers: Float32Array;
}

/** The weights of which these are the shards'. */
export function whole(shards: readonly Weights[]): Weights {
  const joinedOf = (of: (shard: Weights) => Float32Array) =>
    Float32Array.from(shards.flatMap((shard) => [...of(shard)]));
  return {
    query: joinedOf(({ query }) => query),
    key: joinedOf(({ key }) => key),
    buffers: joinedOf(({ buffers }) => buffers),
  };
}

/** What is rounded. */
export interface Numbers {
  readonly gradients: GradientType;
  /** of what a rank computes with */
  readonly precision: "fp32" | "bf16";
}

/** Weights as a rank takes them, whether they have come rounded or not. */
export function taken({ query, key, buffers }: Weights, { precision }: Numbers): Weights {
  if (precision === "fp32") return { query, key, buffers };
  const rounded = (values: Float32Array) => {
    const own = roundedWeights(arena, values, roundings(LAYOUT.parameters));
    const copy = own.slice();
    arena.release(own);
    return copy;
  };
  return { query: rounded(query), key: rounded(key), buffers };
}

const scratch = new Float32Array(1);
const bits = new Int32Array(scratch.buffer);

function stir(hash: number, values: Float32Array): number {
  let mixed = hash;
  for (let i = 0; i < values.length; i++) {
    scratch[0] = values[i];
    mixed = Math.imul(mixed ^ bits[0], 0x9e3779b1);
    mixed ^= mixed >>> 15;
  }
  return mixed;
}

/** A number that tells vectors apart. */
export function fingerprintOf(...vectors: readonly Float32Array[]): number {
  return vectors.reduce((hash, vector) => stir(hash, vector), 0x1234567);
}

/** In [−1, 1), with all 24 bits of a float32's mantissa in use, so that the order of additions shows. */
function value(hash: number, index: number): number {
  const mixed = Math.imul(hash ^ Math.imul(index + 1, 0x85ebca6b), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 13)) >> 8) / 2 ** 23;
}

export interface RankValues {
  readonly gradient: Float32Array;
  readonly keys: Float32Array;
  readonly nonFinite: string | null;
}

function startOf(seed: number, step: number, rank: number): number {
  return Math.imul(step + 1, 0x27d4eb2f) ^ Math.imul(rank + 1, 0x165667b1) ^ seed;
}

/** Everything that a rank's values depend on. */
export interface RankGiven {
  readonly seed: number;
  readonly step: number;
  readonly rank: number;
  readonly weights: Weights;
  readonly queue: Float32Array;
  readonly numbers: Numbers;
  /** what all ranks have shown in the rounds before; empty in the first, and where there are none */
  readonly shown: Float32Array;
}

function hashOf({ seed, step, rank, weights, queue, shown, numbers }: RankGiven): number {
  const { query, key, buffers } = taken(weights, numbers);
  return [query, key, buffers, queue, shown].reduce(stir, startOf(seed, step, rank));
}

/** What a rank shows the others in a round: one value. */
export function shownValue(given: RankGiven): number {
  return value(hashOf(given), 99);
}

const NOTHING = new Float32Array(0);

/** What all ranks show in the rounds of a step, one after another, as `[W]` each. */
export function joined(blocks: readonly Float32Array[]): Float32Array {
  return blocks.length === 0 ? NOTHING : Float32Array.from(blocks.flatMap((block) => [...block]));
}

export function rankValues(given: RankGiven): RankValues {
  const { seed, step, rank, numbers } = given;
  const hash = hashOf(given);
  const gradient = arena.take(GRADIENT);
  for (let i = 0; i < GRADIENT; i++) gradient[i] = value(hash, i);
  arena.round(gradient.subarray(0, roundedLength(LAYOUT, numbers.gradients)));
  // A function of seed, step and rank alone: the same ranks are faulty whoever computes them.
  const isFaulty = (Math.imul(startOf(seed, step, rank), 0x9e3779b1) >>> 0) % 400 === 0;
  return { gradient, keys: Float32Array.of(value(hash, 77)), nonFinite: isFaulty ? "a" : null };
}

export function featureValues(step: number, chunk: number, given: Weights, numbers: Numbers): Float32Array {
  const weights = taken(given, numbers);
  return Float32Array.of(value(stir(stir(step ^ chunk, weights.query), weights.buffers), chunk));
}

export const CLIP_NORM = 2;

/** @param layout of its shard @param state the shard's */
export function newAggregator(
  worldSize: number,
  { gradients, precision }: Numbers,
  layout: ParameterLayout,
  state: TrainingState,
): Aggregator {
  const layers = layerSlices(layout, { decayNormAndBias: false, exclude: [] }, precision);
  return new Aggregator({ layout, buckets: bucketsOf(layout), worldSize, gradients, rule: RULE, layers }, state, arena);
}

export function firstState(seed: number): TrainingState {
  const vector = (length: number, part: number) => Float32Array.from({ length }, (_, i) => value(seed ^ part, i));
  const theta = vector(LAYOUT.parameterCount, 1);
  const buffers = vector(LAYOUT.bufferCount, 2);
  const optimizer = optimizerVectors(RULE.kind).map(() => new Float32Array(LAYOUT.parameterCount));
  return { version: 0, updates: 0, query: theta, key: theta, optimizer, queryBuffers: buffers, keyBuffers: buffers };
}

export function firstQueue(seed: number): KeyQueue {
  return KeyQueue.restore(
    Float32Array.from({ length: QUEUE_SIZE }, (_, i) => value(seed ^ 3, i)),
    QUEUE_SIZE,
    1,
    0,
  );
}

export const rates = (step: number): StepRates => ({ learningRate: 0.1 / (step + 1), keyMomentum: 0.9 + 0.001 * step });

/** The state of which these have the shards. */
export function wholeState(aggregators: readonly Aggregator[]): TrainingState {
  const states = aggregators.map(({ state }) => state);
  const [first] = states;
  const joinedOf = (of: (state: TrainingState) => Float32Array) =>
    Float32Array.from(states.flatMap((state) => [...of(state)]));
  return {
    ...first,
    query: joinedOf(({ query }) => query),
    key: joinedOf(({ key }) => key),
    optimizer: first.optimizer.map((_, index) => joinedOf(({ optimizer }) => optimizer[index])),
    queryBuffers: joinedOf(({ queryBuffers }) => queryBuffers),
    keyBuffers: joinedOf(({ keyBuffers }) => keyBuffers),
  };
}

/** Everything that training changes, as one number. */
export function stateFingerprint(state: TrainingState, queue: Float32Array): number {
  const { query, key, optimizer, queryBuffers, keyBuffers, updates } = state;
  return fingerprintOf(query, key, ...optimizer, queryBuffers, keyBuffers, queue, Float32Array.of(updates));
}

export interface Reference {
  /** fingerprint after so many steps */
  readonly after: readonly number[];
  /** features of each chunk after so many steps, where they are asked for */
  readonly skipped: ReadonlySet<number>;
}

/** The run as one process computes it, undisturbed. */
export function undisturbed(
  seed: number,
  { worldSize, totalSteps, nonFinite }: RunPlan,
  rounds: number,
  numbers: Numbers,
): Reference {
  const aggregator = newAggregator(worldSize, numbers, LAYOUT, firstState(seed));
  const queue = firstQueue(seed);
  const after = [stateFingerprint(aggregator.state, queue.keys)];
  const skipped = new Set<number>();
  for (let step = 0; step < totalSteps; step++) {
    const { query, key, queryBuffers: buffers } = aggregator.state;
    const given = { seed, step, numbers, weights: { query, key, buffers }, queue: queue.keys };
    const blocks: Float32Array[] = [];
    for (let round = 0; round < rounds; round++) {
      const before = joined(blocks);
      blocks.push(Float32Array.from({ length: worldSize }, (_, rank) => shownValue({ ...given, rank, shown: before })));
    }
    const shown = joined(blocks);
    const keys = new Float32Array(worldSize);
    let isFaulty = false;
    for (let rank = 0; rank < worldSize; rank++) {
      const values = rankValues({ ...given, rank, shown });
      aggregator.accept(step, { level: 0, index: rank }, (target) => {
        target.set(values.gradient);
      });
      arena.release(values.gradient);
      keys.set(values.keys, rank);
      if (values.nonFinite !== null) isFaulty = true;
    }
    if (isFaulty && nonFinite === "skip") {
      aggregator.skip();
      skipped.add(step);
    } else {
      Array.from(aggregator.apply({ ...rates(step), clip: clipFactor(aggregator.squares(), CLIP_NORM) }));
      queue.append(keys);
    }
    after.push(stateFingerprint(aggregator.state, queue.keys));
  }
  return { after, skipped };
}
