/** A worker process: one device, an engine thread, a loader thread, and the session that ties them to a run. */
import { hostname } from "node:os";
import type { RunConfig } from "../src/config/schema.js";
import { configureEngine, type DeviceChoice } from "../src/engine/environment.js";
import { resnetArchitecture } from "../src/models/architecture.js";
import { UserError } from "../src/protocol/errors.js";
import { PROTOCOL_VERSION } from "../src/protocol/wire.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import type { ComputeCalls, ComputeNotice } from "./compute-thread.js";
import type { LoaderCalls, LoaderNotice } from "./loader-thread.js";
import { recordApart } from "./record-apart.js";
import { runSession, type Executor } from "./session.js";
import { ThreadClient } from "./thread-call.js";

export interface WorkerOptions {
  /** the coordinator's control plane, `tcp://HOST:PORT` */
  readonly connect: string;
  readonly device: DeviceChoice;
  /** must be what the run's config says, if given */
  readonly threads?: number | undefined;
  /** where this machine keeps the run's data set, if elsewhere than the config says */
  readonly data?: string | undefined;
  readonly signal: AbortSignal;
  readonly log?: (message: string) => void;
  /** hears what its user should know even where a log is kept */
  readonly warn?: (message: string) => void;
}

/** Serves one run until the coordinator ends it or `signal` aborts. */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const threads: { close(): Promise<void> }[] = [];
  const hello = {
    protocolVersion: PROTOCOL_VERSION,
    softwareVersion: SOFTWARE_VERSION,
    host: hostname(),
    pid: process.pid,
    threads: options.threads ?? 0,
  };
  const prepare = async (config: RunConfig, onCorrupt: (name: string) => void) => {
    // Both threads inherit the environment as it is when they start.
    configureEngine({ threads: config.parallel.threads, device: options.device });
    const { executor, ...found } = await startExecutor(config, options, onCorrupt, threads);
    return { executor, ...found };
  };
  try {
    await runSession(
      { endpoint: options.connect, hello, prepare, log: options.log ?? (() => undefined) },
      options.signal,
    );
  } finally {
    await Promise.all(threads.map((thread) => thread.close()));
  }
}

/** Starts the engine's and the loader's threads for a run. Whoever owns `threads` closes them. */
export async function startExecutor(
  config: RunConfig,
  { data, device: choice, warn = () => undefined, log = () => undefined, signal }: Omit<WorkerOptions, "connect">,
  onCorrupt: (name: string) => void,
  threads: { close(): Promise<void> }[],
): Promise<{ executor: Executor; manifestHash: string; engineFingerprint: string; device: string }> {
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
  const executor: Executor = {
    layout,
    setWeights: (version, vectors) => compute.call("weights", { version, vectors }),
    setQueue: (version, keys) => compute.call("queue", { version, keys }),
    appendKeys: (block) => compute.call("keys", { block }),
    run: async (step, rank, flush, segment) => {
      const start = performance.now();
      const batch = await loader.call("take", { step, rank });
      const loadMs = performance.now() - start;
      return { ...(await compute.call("run", { batch, flush, segment })), loadMs };
    },
    prefetch: (step, ranks) => {
      // A failed prefetch fails again, and is heard, when the batch is taken.
      loader.call("prefetch", { step, ranks: [...ranks] }).catch(() => undefined);
    },
    features: async (request) => compute.call("features", { images: await loader.call("read", request) }),
  };
  return { executor, manifestHash, engineFingerprint: fingerprint, device };
}
