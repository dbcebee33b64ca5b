/** What computes for a worker: the engine's thread and the loader's, behind one interface. */
import { onHandedOver } from "../src/native/hand-over.js";
import { configureEngine, type DeviceChoice } from "../src/engine/environment.js";
import { isOwnFile, type OwnKind } from "../src/config/own-file.js";
import { queueRowLength } from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import { modalityOf } from "../src/config/text-encoders.js";
import type { Batch, BatchUse } from "../src/data/loader.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { parseDataSpec } from "../src/data/spec.js";
import { UserError } from "../src/protocol/errors.js";
import { fromFrames, sharedFloats } from "../src/protocol/frames.js";
import { addressOf, isLoopback, type ClientKeys } from "../src/transport/index.js";
import type { ComputeCalls, ComputeNotice, FlushRequest, RunRequest, Unanswered } from "./compute-thread.js";
import type { LoaderCalls, LoaderNotice, SampleStream } from "./loader-thread.js";
import type { WorkerOptions } from "./main.js";
import { recordApart } from "./record-apart.js";
import type { FeatureSlice, HandedOut, Prepared, RankReport, SampleOrigin } from "./session-ports.js";
import type { WeightsInShards } from "./sharded-weights.js";
import { syntheticExecutor } from "./synthetic-executor.js";
import { ThreadClient } from "./thread-call.js";

/** Each device serves its calls in their order, so nobody need await one before making the next. */
export interface Executor {
  readonly layout: ParameterLayout;
  /** known by their numbers */
  readonly devices: number;
  /**
   * @param weights unwritten until the next call has returned
   * @returns false where the memory that they lie in is gone, with whoever had made it
   */
  setWeights(weights: WeightsInShards): Promise<boolean>;
  /** @throws WireError at once, where the frames do not fit */
  setQueue(position: number, frames: readonly Uint8Array[]): Promise<unknown>;
  /** @throws WireError at once, where the frames do not fit */
  appendKeys(frames: readonly Uint8Array[]): Promise<unknown>;
  /** hex sha256 of the queue's ring */
  queueDigest(): Promise<string>;
  /** what a rank shows in a round, float32 `[E]`; null: the step is over */
  embed(device: number, step: number, rank: number, round: number): Promise<Float32Array | null>;
  /** @throws WireError at once, where the frames do not fit */
  setEmbeddings(step: number, round: number, frames: readonly Uint8Array[]): Promise<unknown>;
  /**
   * Of several devices, none hands out anything: `flush` does.
   * @param request its `onShard` hears of each shard of the gradient that is whole while the rank still runs, as it travels; null: nobody does
   */
  run(
    device: number,
    request: Omit<RunRequest, "batch" | "run"> & { readonly onShard: OnShard | null },
  ): Promise<RankReport | null>;
  /** hands out the partial sums of all devices */
  flush(request: FlushRequest): Promise<readonly HandedOut[]>;
  prefetch(device: number, step: number, ranks: readonly number[], use: BatchUse): void;
  /** float32 `[count, featureDim]` */
  features(device: number, slice: FeatureSlice): Promise<Float32Array>;
}

export type ExecutorOptions = Pick<
  WorkerOptions,
  "connect" | "keys" | "data" | "encoder" | "tokenizer" | "method" | "warn" | "log" | "signal"
>;

/** Where samples come from that this machine has not. */
export interface Origins {
  readonly first: SampleOrigin;
  /** @param heard of each later one, also while the data set is being opened */
  readonly onMove: (heard: (origin: SampleOrigin) => void) => void;
}

/** @param parts of the shard's gradient, as they travel; null: it lies in the memory shared with its aggregator */
export type OnShard = (shard: number, parts: readonly Float32Array[] | null) => void;

/** A rank whose gradient leaves shard by shard: where it lies, and that it is whole, are told by different ways. */
class Leaving {
  private slices: HandedOut["slices"] | null = null;
  private readonly early: number[] = [];

  constructor(private readonly onShard: OnShard) {}

  lie(slices: HandedOut["slices"]): void {
    this.slices = slices;
    for (const shard of this.early.splice(0)) this.whole(shard);
  }

  whole(shard: number): void {
    if (this.slices === null) this.early.push(shard);
    else this.onShard(shard, this.slices[shard]);
  }
}

/** A recording that takes longer is told to whoever waits for it. */
const TOLD_AFTER_MS = 10_000;

/** Starts the engine's and the loader's threads for a run. Whoever owns `threads` closes them. */
export async function startExecutor(
  announced: RunConfig,
  origins: Origins,
  {
    connect,
    keys,
    data,
    encoder,
    tokenizer,
    method,
    device: choice,
    warn = () => undefined,
    log = () => undefined,
    signal,
  }: ExecutorOptions & { readonly device: DeviceChoice },
  onCorrupt: (name: string) => void,
  threads: { close(): Promise<void> }[],
): Promise<Prepared & { readonly executor: Executor }> {
  const config = withFilesFrom(announced, connect, { encoder, method, tokenizer });
  // Whoever says where the data are has them.
  const streamed = (from: SampleOrigin) => (data === undefined ? streamFrom(from, connect, keys) : null);
  const stream = streamed(origins.first);
  const spec = data ?? (stream === null ? specFrom(config, connect) : config.data.spec);
  // Both threads inherit the environment as it is when they start.
  configureEngine({ threads: config.parallel.threads, device: choice });
  const loader = new ThreadClient<LoaderCalls, LoaderNotice>(
    new URL("./loader-thread.js", import.meta.url),
    ({ corrupt }) => {
      onCorrupt(corrupt);
    },
  );
  threads.push(loader);
  if (config.engine.mode === "synthetic") {
    const found = await loader.call("open", { config, spec, stream });
    await loader.close();
    return syntheticExecutor(config, found);
  }
  /** ranks that run, by their numbers */
  const leaving = new Map<number, Leaving>();
  let runs = 0;
  const compute = new ThreadClient<ComputeCalls, ComputeNotice>(
    new URL("./compute-thread.js", import.meta.url),
    (notice) => {
      if ("warning" in notice) warn(notice.warning);
      else leaving.get(notice.run)?.lie(notice.slices);
    },
  );
  threads.push(compute);
  origins.onMove((origin) => {
    const now = streamed(origin);
    if (now !== null) loader.call("move", now).catch(() => undefined);
  });
  const prepare = async () => {
    const start = performance.now();
    const isNew = await compute.call("needsRecording", { config });
    if (isNew) {
      const soon = setTimeout(() => {
        warn(
          "the training step is being recorded, which is kept for the next start: a minute or more for large encoders",
        );
      }, TOLD_AFTER_MS);
      await recordApart(config, signal);
      clearTimeout(soon);
    }
    signal.throwIfAborted();
    const found = await compute.call("start", { config });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const how = found.mode === "eager" ? "eager" : `compiled, ${isNew ? "recorded" : "from a kept graph"}`;
    log(`the engine is ready after ${seconds} s: ${how}`);
    return found;
  };
  const [found, { manifestHash, splitLengths }] = await Promise.all([
    prepare(),
    loader.call("open", { config, spec, stream }),
  ]);
  const { fingerprint, device, layout, rounds, stands, takesBfloat16 } = found;
  if (choice.startsWith("gpu") && device !== "gpu") {
    throw new UserError(
      "DEVICE_MISSING",
      `the engine finds no device ${choice} here: see tandem doctor, or name another, e.g. cpu`,
    );
  }
  // TensorFlow is here by now.
  if (found.mode === "compiled")
    onHandedOver((run, shard) => {
      leaving.get(run)?.whole(shard);
    });
  const { queueSize } = config.moco;
  const row = queueRowLength(config);
  const { worldSize, batchSize } = config.parallel;
  const copied = (frames: readonly Uint8Array[], length: number) => {
    const values = sharedFloats(length);
    fromFrames(frames, values);
    return values;
  };
  /** A rank that stands still where it is asked to go on has its batch; any other gets it. Null: its step is over. */
  const answered = async <Answer extends object>(
    ask: (batch: Batch | null) => Promise<Answer | Unanswered>,
    batchOf: () => Promise<Batch>,
    mayStand: boolean,
  ): Promise<Answer | null> => {
    const first = mayStand ? await ask(null) : "needs-batch";
    const answer = first === "needs-batch" ? await ask(await batchOf()) : first;
    return typeof answer === "string" ? null : answer;
  };
  const executor: Executor = {
    layout,
    devices: 1,
    setWeights: async (weights) => {
      await compute.call("weights", weights);
      return true;
    },
    setQueue: (position, frames) => compute.call("queue", { position, keys: copied(frames, queueSize * row) }),
    appendKeys: (frames) => compute.call("keys", { block: copied(frames, worldSize * batchSize * row) }),
    queueDigest: () => compute.call("queueDigest", null),
    embed: (_, step, rank, round) =>
      answered(
        (batch) => compute.call("embed", { step, rank, round, batch }),
        () => loader.call("take", { step, rank, use: "embeddings" }),
        round > 0,
      ),
    setEmbeddings: (step, round, frames) =>
      compute.call("embeddings", { step, round, block: copied(frames, worldSize * (rounds[round] ?? 0)) }),
    run: async (_, { step, rank, onShard, ...request }) => {
      let loadMs = 0;
      const run = onShard === null ? null : ++runs;
      if (run !== null && onShard !== null) leaving.set(run, new Leaving(onShard));
      const outcome = await answered(
        (batch) => compute.call("run", { step, rank, batch, run, ...request }),
        async () => {
          const start = performance.now();
          const batch = await loader.call("take", { step, rank, use: "gradients" });
          loadMs = performance.now() - start;
          return batch;
        },
        stands,
      );
      if (run !== null) leaving.delete(run);
      return outcome === null ? null : { ...outcome, loadMs };
    },
    flush: (request) => compute.call("flush", request),
    prefetch: (_, step, ranks, use) => {
      // A failed prefetch fails again, and is heard, when the batch is taken.
      loader.call("prefetch", { step, ranks: [...ranks], use }).catch(() => undefined);
    },
    features: async (_, request) => compute.call("features", { samples: await loader.call("read", request) }),
  };
  const tensors = layout.parameters.length;
  return {
    ...{ executor, manifestHash, splitLengths, tensors, engineFingerprint: fingerprint, device, devices: 1, rounds },
    takesBfloat16,
  };
}

/** @returns null where the coordinator streams no samples */
function streamFrom({ runId, port }: SampleOrigin, connect: string, keys: ClientKeys | null): SampleStream | null {
  if (port === null) return null;
  return { endpoint: `tcp://${addressOf(connect).host}:${String(port)}`, keys, runId };
}

/**
 * No path comes from the wire: whoever poses as the coordinator could have any folder read.
 * @throws UserError `DATA_ELSEWHERE` where the run's data are files, and its coordinator is not known to be on this machine
 */
function specFrom({ data: { spec } }: RunConfig, connect: string): string {
  if (parseDataSpec(spec).kind === "synthetic" || isLoopback(connect)) return spec;
  throw new UserError(
    "DATA_ELSEWHERE",
    `the run's data are ${spec} on the coordinator's machine: give --data with where this machine keeps them, e.g. --data ${spec}, or start the coordinator with --data-delivery stream`,
  );
}

/**
 * No path comes from the wire here either, least of all one whose file is run.
 * @param own where this machine keeps the run's files; undefined: where the coordinator does
 * @throws UserError `ENCODER_ELSEWHERE`, `METHOD_ELSEWHERE`, `TOKENIZER_ELSEWHERE` where the run has such a file, and the coordinator is not known to be on
 *   this machine
 */
function withFilesFrom(
  config: RunConfig,
  connect: string,
  own: Readonly<Record<OwnKind, string | undefined>>,
): RunConfig {
  const { data, model, ownMethod } = config;
  const tokenizer = modalityOf(config) === "text" ? data.tokenizer : null;
  const placed = (kind: OwnKind, there: string) => {
    const here = own[kind] ?? (isLoopback(connect) ? there : undefined);
    if (here !== undefined) return here;
    throw new UserError(
      `${kind.toUpperCase()}_ELSEWHERE`,
      `the run's ${kind} is the file ${there} on the coordinator's machine: give --${kind} with where this machine keeps it`,
    );
  };
  return {
    ...config,
    data: tokenizer === null ? data : { ...data, tokenizer: placed("tokenizer", tokenizer) },
    model: isOwnFile(model.encoder) ? { ...model, encoder: placed("encoder", model.encoder) } : model,
    ownMethod: ownMethod.file === null ? ownMethod : { ...ownMethod, file: placed("method", ownMethod.file) },
  };
}
