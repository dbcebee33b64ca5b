/**
 * An executor that computes nothing: a rank takes the time that the config says and gives gradients as large as the encoder's. Everything
 * around it is a run's own, so what a run costs beside its compute can be measured where there is no device to compute with.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { queueRowLength, roundsOf, weightsPrecision } from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import { architectureOf } from "../src/models/architecture.js";
import { gradientLength } from "../src/models/exchange.js";
import { sliceOf } from "../src/models/shards.js";
import { VectorArena } from "../src/optim/index.js";
import { sha256OfFloats } from "../src/protocol/digest.js";
import { Purpose, Stream } from "../src/protocol/philox.js";
import type { Executor } from "./executor.js";
import { PartialSums, type Exit } from "./partial-sums.js";
import type { Prepared, RankReport } from "./session-ports.js";

/** Standard deviation of a gradient's values. */
const GRADIENT_SCALE = 1e-3;
/** Values that are drawn; a gradient repeats them. */
const PATTERN_LENGTH = 1 << 16;
/** What a forward pass takes of a rank's time. */
const FORWARD_SHARE = 1 / 3;
const NO_QUEUE = sha256OfFloats(new Float32Array(0));
const UNMEASURED = { loss: 0, accuracy: 0, positiveSimilarity: 0, negativeSimilarity: 0, loadMs: 0, nonFinite: null };

/** @param found of the run's data set, no sample of which is read */
export async function syntheticExecutor(
  config: RunConfig,
  found: Pick<Prepared, "manifestHash" | "splitLengths">,
): Promise<Prepared & { readonly executor: Executor }> {
  const { layout } = await architectureOf(config);
  const { worldSize, batchSize, gradients } = config.parallel;
  const { rankMs } = config.engine.synthetic;
  const rounds = roundsOf(config, layout.bufferCount) ?? [];
  const arena = new VectorArena();
  const sums = new PartialSums(layout, worldSize, gradients, arena);
  const draws = new Stream(config.seed, { purpose: Purpose.syntheticGradient });
  const pattern = Float32Array.from({ length: PATTERN_LENGTH }, () => GRADIENT_SCALE * draws.normal());
  const gradient = new Float32Array(gradientLength(layout)).map((_, index) => pattern[index % PATTERN_LENGTH]);
  const shown = rounds.map((length) => new Float32Array(length));
  const keys = new Float32Array(batchSize * queueRowLength(config));

  /** Where nothing is to be added to it, the gradient goes as it is. */
  const asItIs = ({ slice, memory }: Exit) => {
    const own = sliceOf(gradient, slice);
    memory?.set(own);
    return memory === null ? [own] : null;
  };
  const handedOut = (rank: number, exits: readonly Exit[] | null): RankReport["nodes"] => {
    const node = { level: 0, index: rank };
    if (exits !== null && sums.isEmpty && sums.rounded === 0) return [{ node, slices: exits.map(asItIs) }];
    const sum = arena.take(gradient.length);
    sum.set(gradient);
    arena.round(sum.subarray(0, sums.rounded));
    sums.add(node, sum);
    return exits === null ? [] : sums.handOut(exits);
  };
  const nothing = Promise.resolve(null);
  const executor: Executor = {
    layout,
    devices: 1,
    setWeights: () => Promise.resolve(true),
    setQueue: () => nothing,
    appendKeys: () => nothing,
    queueDigest: () => Promise.resolve(NO_QUEUE),
    embed: async (_device, _step, _rank, round) => {
      await take((rankMs * FORWARD_SHARE) / rounds.length);
      return shown[round];
    },
    setEmbeddings: () => nothing,
    run: async (_device, { link, step, rank, flush, memories }) => {
      const start = performance.now();
      await take(rounds.length === 0 ? rankMs : rankMs * (1 - FORWARD_SHARE));
      if (!sums.open({ link, step })) return null;
      const nodes = handedOut(rank, flush ? sums.exits(memories) : null);
      const graphMs = performance.now() - start;
      const forwardMs = rounds.length === 0 ? graphMs * FORWARD_SHARE : 0;
      return { ...UNMEASURED, nodes, keys, graphMs, forwardMs, backwardMs: graphMs - forwardMs };
    },
    flush: ({ memories, ...occasion }) =>
      Promise.resolve(sums.open(occasion) ? sums.handOut(sums.exits(memories)) : []),
    prefetch: () => undefined,
    features: () => Promise.reject(new Error("features were asked for, and nothing computes them")),
  };
  return {
    ...{ ...found, executor, rounds, engineFingerprint: "synthetic", device: "synthetic", devices: 1 },
    ...{ tensors: layout.parameters.length, takesBfloat16: weightsPrecision(config) === "bf16" },
  };
}

async function take(ms: number): Promise<void> {
  if (ms > 0) await sleep(ms);
}
