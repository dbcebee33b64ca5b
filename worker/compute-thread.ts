/** The thread that owns the device: engine, weights, queue. It computes and never waits for the network. */
import type { RunConfig } from "../src/config/schema.js";
import type { Batch } from "../src/data/loader.js";
import type { SampleValues } from "../src/data/run-samples.js";
import { nodeBackend } from "../src/engine/index.js";
import { encoderOf, type ParameterLayout } from "../src/models/index.js";
import { engineFingerprint } from "./fingerprint.js";
import { RankComputer, type RankOutcome } from "./rank-computer.js";
import type { Occasion } from "./partial-sums.js";
import type { HandedOut } from "./session-ports.js";
import type { WeightVectors } from "./incoming-weights.js";
import type { WeightsInShards } from "./sharded-weights.js";
import { isStepKept, type PreparedStep } from "./rank-step.js";
import { serveCalls } from "./thread-call.js";

export type ComputeCalls = {
  /** whether the step has to be recorded first, which another process does better */
  needsRecording: [{ config: RunConfig }, boolean];
  start: [
    { config: RunConfig },
    {
      fingerprint: string;
      device: string;
      mode: PreparedStep["mode"];
      layout: ParameterLayout;
      rounds: readonly number[];
      takesBfloat16: boolean;
      /** ranks stand still in the midst of their step, and keep their batch there */
      stands: boolean;
    },
  ];
  weights: [WeightsInShards<WeightVectors>, null];
  queue: [{ position: number; keys: Float32Array }, null];
  keys: [{ block: Float32Array }, null];
  queueDigest: [null, string];
  /** what a rank shows in a round, float32 `[E]` */
  embed: [Place & { batch: Batch | null }, Float32Array | Unanswered];
  /** what all ranks have shown in it, float32 `[W, E]` */
  embeddings: [{ step: number; round: number; block: Float32Array }, null];
  run: [RunRequest, RankOutcome | Unanswered];
  flush: [FlushRequest, readonly HandedOut[]];
  features: [{ samples: SampleValues }, Float32Array];
};

/** A rank of a step, and the round that it is to begin. */
export interface Place {
  readonly step: number;
  readonly rank: number;
  readonly round: number;
}

/** Why there is no answer: the rank does not stand where it was asked to go on, and needs its batch; or its step is over. */
export type Unanswered = "needs-batch" | "over";

export interface RunRequest extends FlushRequest {
  readonly rank: number;
  /** null: the rank is expected to stand still before its gradients */
  readonly batch: Batch | null;
  readonly flush: boolean;
  /** by which whoever listens (`onHandedOver`) hears of each shard of its gradient that is whole while the rank runs; null: nobody does */
  readonly run: number | null;
}

export interface FlushRequest extends Occasion {
  /** shared with whoever owns each shard; null: what is handed out travels otherwise */
  readonly memories: readonly (Float32Array | null)[];
}

let computer: RankComputer | null = null;

function started(): RankComputer {
  if (computer === null) throw new Error("the engine was used before it was started");
  return computer;
}

/** Said unasked: why the step runs otherwise than the config says; or where a rank's gradient is going to be, shard by shard, while it runs. */
export type ComputeNotice =
  { readonly warning: string } | { readonly run: number; readonly slices: HandedOut["slices"] };

const notify = serveCalls<ComputeCalls, ComputeNotice>({
  needsRecording: async ({ config }) =>
    config.engine.mode === "compiled" && !(await isStepKept(config, await encoderOf(config))),
  start: async ({ config }) => {
    const warn = (warning: string) => {
      notify({ warning });
    };
    const prepared = await RankComputer.prepare(config, warn);
    computer = prepared;
    const device = nodeBackend().isUsingGpuDevice ? "gpu" : "cpu";
    const fingerprint = await engineFingerprint(config.engine, prepared.mode);
    const { mode, encoder, rounds, stands, takesBfloat16 } = prepared;
    return { fingerprint, device, mode, layout: encoder.layout, rounds, stands, takesBfloat16 };
  },
  weights: (weights) => {
    started().setWeights(weights);
    return null;
  },
  queue: ({ position, keys }) => {
    started().setQueue(position, keys);
    return null;
  },
  keys: ({ block }) => {
    started().appendKeys(block);
    return null;
  },
  queueDigest: () => started().queueDigest(),
  embed: ({ batch, ...place }) => started().embed(place, batch),
  embeddings: ({ step, round, block }) => {
    started().setEmbeddings(step, round, block);
    return null;
  },
  run: (request) =>
    started().run(request, (run, slices) => {
      notify({ run, slices });
    }),
  flush: (request) => started().flush(request),
  features: ({ samples }) => started().features(samples),
});
