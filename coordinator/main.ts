/** A coordinator process: opens the run, starts its planes, and serves until the run ends. */
import { randomBytes } from "node:crypto";
import {
  checkpointSteps,
  latestCheckpoint,
  lockRun,
  openRunDirectory,
  readCheckpoint,
  readRunConfig,
  readRunId,
  type RunLock,
} from "../src/checkpoint/index.js";
import { runLength } from "../src/config/derived.js";
import { checkAgainstDataset } from "../src/config/resolve.js";
import type { RunConfig } from "../src/config/schema.js";
import { CorruptLimit, openDataset, type Dataset } from "../src/data/index.js";
import { resnetArchitecture } from "../src/models/architecture.js";
import { initialBuffers, initialParameters, type ParameterLayout } from "../src/models/parameters.js";
import { KeyQueue } from "../src/objectives/key-queue.js";
import { learningRateAt } from "../src/optim/index.js";
import { UserError } from "../src/protocol/errors.js";
import { sharedFloats } from "../src/protocol/frames.js";
import { runId } from "../src/protocol/identifiers.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import { openGuard, type ServerKeys } from "../src/transport/index.js";
import type { TrainingState } from "./aggregator.js";
import { ControlSocket, serveRun } from "./control-plane.js";
import { EmbeddedAggregator } from "./embedded-aggregator.js";
import { Evaluation, evaluationChunks } from "./evaluation.js";
import { Membership } from "./membership.js";
import { initialState, type Outcome, type RunPlan } from "./run-state.js";
import type { RunObserver, Schedule } from "./server.js";
import { fromGroups } from "./stored-state.js";

export interface CoordinatorOptions {
  readonly config: RunConfig;
  /** control plane, `tcp://ADDRESS:PORT`; the data plane takes the next port, or a free one where the port is `*` */
  readonly listen: string;
  /** CURVE keys; null: whoever reaches the ports may speak */
  readonly keys: ServerKeys | null;
  /** run directory */
  readonly out: string;
  readonly resume: boolean;
  /** asks for a checkpoint and an orderly end */
  readonly signal: AbortSignal;
  readonly onListening?: (info: { readonly control: string }) => void;
  readonly observer: RunObserver;
}

export interface CoordinatorResult {
  readonly outcome: Outcome;
  readonly step: number;
  readonly totalSteps: number;
  /** last checkpoint written, if any */
  readonly checkpoint: string | null;
}

export async function runCoordinator(options: CoordinatorOptions): Promise<CoordinatorResult> {
  const lock = new RunHold(options.out);
  try {
    return await coordinate(options, lock);
  } finally {
    await lock.release();
  }
}

/** The lock on the run directory, once it is taken. */
class RunHold {
  private lock: RunLock | null = null;
  private readonly losing = new AbortController();
  /** aborted, with the error, when another coordinator has taken the run over */
  readonly lost = this.losing.signal;

  constructor(private readonly directory: string) {}

  async take(): Promise<void> {
    this.lock = await lockRun(this.directory, (error) => {
      this.losing.abort(error);
    });
  }

  async release(): Promise<void> {
    await this.lock?.release();
  }
}

async function coordinate(options: CoordinatorOptions, lock: RunHold): Promise<CoordinatorResult> {
  const { config, out, observer } = options;
  const dataset = await openDataset(config.data.spec, { decodeSize: config.data.decodeSize });
  checkAgainstDataset(config, dataset.splits.train.length);
  const architecture = resnetArchitecture(config.model);
  const { layout } = architecture;
  const openDirectory = async (how: { readonly resume: true } | { readonly resume: false; readonly id: string }) => {
    // Locked before anything is written: of two that begin a run in one directory at once, one finds it taken.
    await lock.take();
    await openRunDirectory(out, { config, manifestHash: dataset.manifestHash, ...how });
  };
  if (options.resume) {
    await readRunConfig(out);
    await openDirectory({ resume: true });
  }

  const begun = options.resume
    ? await resumed(out, config, layout, dataset)
    : { ...fresh(config, layout), id: runId(randomBytes(8).toString("hex")), fingerprint: null, reproducible: true };
  const step = begun.state.version;
  const { totalSteps } = runLength(config, dataset.splits.train.length);

  const guarded =
    options.keys === null
      ? null
      : await openGuard(options.keys, (reason) => {
          control.refused(reason);
        });
  const control: ControlSocket = new ControlSocket(guarded?.guard ?? null);
  let aggregator: EmbeddedAggregator | null = null;
  try {
    const endpoint = await control.bind(options.listen);
    aggregator = await EmbeddedAggregator.start({
      options: {
        layout,
        worldSize: config.parallel.worldSize,
        sgdMomentum: config.optimizer.momentum,
        weightDecay: config.optimizer.weightDecay,
        decayNormAndBias: config.optimizer.decayNormAndBias,
        keyMomentum: config.moco.keyMomentum,
      },
      state: begun.state,
      runId: begun.id,
      endpoint: dataEndpoint(options.listen, endpoint),
      deadAfterMs: config.membership.deadAfterMs,
      guard: guarded?.guard ?? null,
    });
    // Only now: a port in use must not leave a run behind.
    if (!options.resume) await openDirectory({ resume: false, id: begun.id });
    const membership = new Membership(
      {
        runId: begun.id,
        config,
        softwareVersion: SOFTWARE_VERSION,
        dataPort: portOf(aggregator.endpoint),
        manifestHash: dataset.manifestHash,
        newTicket: () => randomBytes(16).toString("hex"),
      },
      begun.fingerprint,
    );
    const corrupt = new CorruptLimit(config.data.maxCorrupt);
    options.onListening?.({ control: endpoint });
    const {
      end,
      step: reached,
      checkpoint,
    } = await serveRun(
      control,
      {
        parts: {
          membership,
          queue: begun.queue,
          schedule: scheduleOf(config, dataset),
          keysPerRank: config.parallel.batchSize * config.model.embeddingDim,
          initial: initialState(planOf(config, dataset, totalSteps), step),
        },
        aggregator,
        checkpoints: { config, out },
        describe: (knn) => ({
          runId: begun.id,
          config,
          manifestHash: dataset.manifestHash,
          engineFingerprint: membership.engineFingerprint,
          architecture: config.model.encoder,
          queuePosition: begun.queue.position,
          reproducible: begun.reproducible && !membership.isMixed,
          knn,
        }),
        heartbeatMs: config.membership.heartbeatMs,
        observer,
        openEvaluation: (at) => new Evaluation(at, config, dataset, architecture.featureDim),
        countCorrupt: (name) => {
          if (corrupt.count(name)) observer.corrupt(name, corrupt.size);
        },
      },
      { stop: options.signal, lost: lock.lost },
    );
    if (end.failure !== null) throw new UserError(end.failure.code, end.failure.message);
    return { outcome: end.outcome, step: reached, totalSteps, checkpoint };
  } finally {
    control.close();
    await aggregator?.close();
    guarded?.close();
  }
}

function scheduleOf(config: RunConfig, dataset: Dataset): Schedule {
  const length = runLength(config, dataset.splits.train.length);
  const { learningRate: peak, warmupEpochs } = config.optimizer;
  const warmupSteps = Math.round(warmupEpochs * length.stepsPerEpoch);
  return {
    ...length,
    learningRate: (step) => learningRateAt(step, { peak, warmupSteps, totalSteps: length.totalSteps }),
  };
}

function planOf(config: RunConfig, dataset: Dataset, totalSteps: number): RunPlan {
  const { stepsPerEpoch } = runLength(config, dataset.splits.train.length);
  const chunks = evaluationChunks(config, dataset).length;
  return {
    worldSize: config.parallel.worldSize,
    totalSteps,
    minWorkers: config.membership.minWorkers,
    heartbeatMs: config.membership.heartbeatMs,
    deadAfterMs: config.membership.deadAfterMs,
    lateQuantile: config.membership.lateQuantile,
    nonFinite: config.numerics.nonFinite,
    checkpointEverySteps: config.checkpoint.everySteps,
    evaluateEverySteps: chunks === 0 ? 0 : config.evaluation.everyEpochs * stepsPerEpoch,
    featureChunks: chunks,
  };
}

function fresh(config: RunConfig, layout: ParameterLayout): { state: TrainingState; queue: KeyQueue } {
  const share = (values: Float32Array) => {
    const shared = sharedFloats(values.length);
    shared.set(values);
    return shared;
  };
  const query = share(initialParameters(layout, config.seed));
  const buffers = share(initialBuffers(layout));
  return {
    state: {
      version: 0,
      query,
      key: query,
      velocity: sharedFloats(layout.parameterCount),
      queryBuffers: buffers,
      keyBuffers: buffers,
    },
    queue: KeyQueue.random(config.moco.queueSize, config.model.embeddingDim, config.seed),
  };
}

async function resumed(out: string, config: RunConfig, layout: ParameterLayout, dataset: Dataset) {
  // It ended before its first checkpoint; the state at step 0 is a function of the config.
  if ((await checkpointSteps(out)).length === 0) {
    return { ...fresh(config, layout), id: runId(await readRunId(out)), fingerprint: null, reproducible: true };
  }
  const directory = await latestCheckpoint(out);
  const checkpoint = await readCheckpoint(directory);
  if (checkpoint.meta.manifestHash !== dataset.manifestHash) {
    throw new UserError(
      "MANIFEST_MISMATCH",
      `${directory} was trained on another data set than ${config.data.spec}: resume with the same files`,
    );
  }
  const { state, queue } = fromGroups(layout, checkpoint, config, directory);
  const { runId: id, engineFingerprint: fingerprint, reproducible } = checkpoint.meta;
  return { state, queue, id: runId(id), fingerprint, reproducible };
}

function portOf(endpoint: string): number {
  return Number(endpoint.slice(endpoint.lastIndexOf(":") + 1));
}

/** The port behind the control plane's, on the same address; a free one where the control plane took a free one. */
function dataEndpoint(asked: string, bound: string): string {
  const address = bound.slice(0, bound.lastIndexOf(":"));
  return asked.endsWith(":*") ? `${address}:*` : `${address}:${String(portOf(bound) + 1)}`;
}
