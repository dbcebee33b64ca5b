/** What computes for a worker: the engine's thread and the loader's, behind one interface. */
import { resnetArchitecture } from "../src/models/architecture.js";
import { configureEngine } from "../src/engine/environment.js";
import type { RunConfig } from "../src/config/schema.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { UserError } from "../src/protocol/errors.js";
import { fromFrames, sharedFloats } from "../src/protocol/frames.js";
import type { ComputeCalls, ComputeNotice, RunRequest } from "./compute-thread.js";
import type { WeightVectors } from "./incoming-weights.js";
import type { LoaderCalls, LoaderNotice } from "./loader-thread.js";
import type { WorkerOptions } from "./main.js";
import { recordApart } from "./record-apart.js";
import type { FeatureSlice, HandedOut, Prepared, RankReport } from "./session.js";
import { ThreadClient } from "./thread-call.js";

/** Calls are served in their order, so nobody need await one before making the next. */
export interface Executor {
  readonly layout: ParameterLayout;
  /** @param vectors unwritten until the next call has returned */
  setWeights(version: number, vectors: WeightVectors): Promise<unknown>;
  /** @throws WireError at once, where the frames do not fit */
  setQueue(position: number, frames: readonly Uint8Array[]): Promise<unknown>;
  /** @throws WireError at once, where the frames do not fit */
  appendKeys(frames: readonly Uint8Array[]): Promise<unknown>;
  /** hex sha256 of the queue's ring */
  queueDigest(): Promise<string>;
  run(request: Omit<RunRequest, "batch"> & { readonly step: number; readonly rank: number }): Promise<RankReport>;
  /** hands out the partial sums of the open step */
  flush(): Promise<readonly HandedOut[]>;
  prefetch(step: number, ranks: readonly number[]): void;
  /** float32 `[count, featureDim]` */
  features(slice: FeatureSlice): Promise<Float32Array>;
}

export type ExecutorOptions = Pick<WorkerOptions, "data" | "device" | "warn" | "log" | "signal">;

/** Starts the engine's and the loader's threads for a run. Whoever owns `threads` closes them. */
export async function startExecutor(
  config: RunConfig,
  { data, device: choice, warn = () => undefined, log = () => undefined, signal }: ExecutorOptions,
  onCorrupt: (name: string) => void,
  threads: { close(): Promise<void> }[],
): Promise<Prepared & { readonly executor: Executor }> {
  // Both threads inherit the environment as it is when they start.
  configureEngine({ threads: config.parallel.threads, device: choice });
  const compute = new ThreadClient<ComputeCalls, ComputeNotice>(
    new URL("./compute-thread.js", import.meta.url),
    ({ warning }) => {
      warn(warning);
    },
  );
  const loader = new ThreadClient<LoaderCalls, LoaderNotice>(
    new URL("./loader-thread.js", import.meta.url),
    ({ corrupt }) => {
      onCorrupt(corrupt);
    },
  );
  threads.push(compute, loader);
  const prepare = async () => {
    const start = performance.now();
    const isNew = await compute.call("needsRecording", { config });
    if (isNew) await recordApart(config, signal);
    signal.throwIfAborted();
    const found = await compute.call("start", { config });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const how = found.mode === "eager" ? "eager" : `compiled, ${isNew ? "recorded" : "from a kept graph"}`;
    log(`the engine is ready after ${seconds} s: ${how}`);
    return found;
  };
  const [{ fingerprint, device }, { manifestHash }] = await Promise.all([
    prepare(),
    loader.call("open", { config, spec: data ?? config.data.spec }),
  ]);
  const { layout } = resnetArchitecture(config.model);
  if (choice.startsWith("gpu") && device !== "gpu") {
    throw new UserError(
      "DEVICE_MISSING",
      `the engine finds no device ${choice} here: see tandem doctor, or use --device cpu`,
    );
  }
  const { queueSize } = config.moco;
  const { embeddingDim } = config.model;
  const { worldSize, batchSize } = config.parallel;
  const copied = (frames: readonly Uint8Array[], rows: number) => {
    const values = sharedFloats(rows * embeddingDim);
    fromFrames(frames, values);
    return values;
  };
  const executor: Executor = {
    layout,
    setWeights: (version, vectors) => compute.call("weights", { version, vectors }),
    setQueue: (position, frames) => compute.call("queue", { position, keys: copied(frames, queueSize) }),
    appendKeys: (frames) => compute.call("keys", { block: copied(frames, worldSize * batchSize) }),
    queueDigest: () => compute.call("queueDigest", null),
    run: async ({ step, rank, ...request }) => {
      const start = performance.now();
      const batch = await loader.call("take", { step, rank });
      const loadMs = performance.now() - start;
      return { ...(await compute.call("run", { batch, ...request })), loadMs };
    },
    flush: () => compute.call("flush", null),
    prefetch: (step, ranks) => {
      // A failed prefetch fails again, and is heard, when the batch is taken.
      loader.call("prefetch", { step, ranks: [...ranks] }).catch(() => undefined);
    },
    features: async (request) => compute.call("features", { images: await loader.call("read", request) }),
  };
  return { executor, manifestHash, engineFingerprint: fingerprint, device };
}
