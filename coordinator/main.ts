/** A coordinator process: opens the run, starts its planes, and serves until the run ends. */
import { randomBytes } from "node:crypto";
import {
  latestCheckpoint,
  lockRun,
  openRunDirectory,
  readCheckpoint,
  readRunConfig,
  writeCheckpoint,
  type CheckpointState,
  type RunLock,
} from "../src/checkpoint/index.js";
import { runLength } from "../src/config/derived.js";
import { checkAgainstDataset } from "../src/config/resolve.js";
import type { RunConfig } from "../src/config/schema.js";
import { CorruptLimit, openDataset, type Dataset } from "../src/data/index.js";
import { resnetArchitecture } from "../src/models/architecture.js";
import { initialBuffers, initialParameters, type ParameterLayout } from "../src/models/parameters.js";
import { KeyQueue } from "../src/objectives/key-queue.js";
import { UserError } from "../src/protocol/errors.js";
import { sharedFloats } from "../src/protocol/frames.js";
import { runId } from "../src/protocol/identifiers.js";
import { coordinatorCodec, workerCodec } from "../src/protocol/wire.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import { RouterSocket } from "../src/transport/index.js";
import type { TrainingState } from "./aggregator.js";
import { EmbeddedAggregator } from "./embedded-aggregator.js";
import { evaluationChunks } from "./evaluation.js";
import { Membership } from "./membership.js";
import { initialState, type Outcome, type RunPlan } from "./run-state.js";
import { Server, type RunObserver } from "./server.js";
import { fromGroups, toGroups } from "./stored-state.js";

export interface CoordinatorOptions {
  readonly config: RunConfig;
  /** control plane, `tcp://ADDRESS:PORT`; the data plane takes the next port, or a free one where the port is `*` */
  readonly listen: string;
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

  constructor(private readonly directory: string) {}

  async take(): Promise<void> {
    this.lock = await lockRun(this.directory);
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
  const openDirectory = async () => {
    // Locked before anything is written: of two that begin a run in one directory at once, one finds it taken.
    await lock.take();
    await openRunDirectory(out, { config, manifestHash: dataset.manifestHash, resume: options.resume });
  };
  if (options.resume) {
    await readRunConfig(out);
    await openDirectory();
  }

  const begun = options.resume
    ? await resumed(out, config, layout, dataset)
    : { ...fresh(config, layout), id: runId(randomBytes(8).toString("hex")), fingerprint: null };
  const step = begun.state.version;
  const { totalSteps } = runLength(config, dataset.splits.train.length);

  const drop = (peer: string, error: Error) => {
    observer.dropped(peer, error.message);
  };
  const control = new RouterSocket(workerCodec, coordinatorCodec, drop);
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
    });
    // Only now: a port in use must not leave a run behind.
    if (!options.resume) await openDirectory();
    const membership = new Membership(
      {
        runId: begun.id,
        config,
        softwareVersion: SOFTWARE_VERSION,
        dataPort: portOf(aggregator.endpoint),
        manifestHash: dataset.manifestHash,
      },
      begun.fingerprint,
    );
    const written: { last: string | null } = { last: null };
    const corrupt = new CorruptLimit(config.data.maxCorrupt);
    const held = aggregator;
    const server = new Server({
      config,
      dataset,
      embeddingDim: config.model.embeddingDim,
      featureDim: architecture.featureDim,
      membership,
      aggregator,
      control,
      queue: begun.queue,
      observer,
      initial: initialState(planOf(config, dataset, totalSteps), step),
      countCorrupt: (name) => {
        if (corrupt.count(name)) observer.corrupt(name, corrupt.size);
      },
      checkpoint: async (at, knn) => {
        // Both are taken now, before the next update can begin.
        const queueKeys = begun.queue.keys.slice();
        const state = await held.capture();
        if (state.version !== at)
          throw new Error(`a checkpoint of step ${String(at)} met the state of ${String(state.version)}`);
        const checkpoint: CheckpointState = {
          step: at,
          meta: {
            runId: begun.id,
            config,
            manifestHash: dataset.manifestHash,
            engineFingerprint: membership.engineFingerprint,
            architecture: config.model.encoder,
            knn,
          },
          groups: toGroups(layout, state, queueKeys, config.model.embeddingDim),
        };
        try {
          written.last = await writeCheckpoint(out, checkpoint, { keep: config.checkpoint.keep });
          return written.last;
        } finally {
          held.command({ kind: "release", version: at });
        }
      },
    });
    options.onListening?.({ control: endpoint });
    const outcome = await server.run(options.signal);
    return { outcome, step: server.step, totalSteps, checkpoint: written.last };
  } finally {
    control.close();
    await aggregator?.close();
  }
}

function planOf(config: RunConfig, dataset: Dataset, totalSteps: number): RunPlan {
  const { stepsPerEpoch } = runLength(config, dataset.splits.train.length);
  const chunks = evaluationChunks(config, dataset).length;
  return {
    worldSize: config.parallel.worldSize,
    totalSteps,
    minWorkers: config.membership.minWorkers,
    deadAfterMs: config.membership.deadAfterMs,
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
  const directory = await latestCheckpoint(out);
  const checkpoint = await readCheckpoint(directory);
  if (checkpoint.meta.manifestHash !== dataset.manifestHash) {
    throw new UserError(
      "MANIFEST_MISMATCH",
      `${directory} was trained on another data set than ${config.data.spec}: resume with the same files`,
    );
  }
  const { state, queue } = fromGroups(layout, checkpoint, config, directory);
  return { state, queue, id: runId(checkpoint.meta.runId), fingerprint: checkpoint.meta.engineFingerprint };
}

function portOf(endpoint: string): number {
  return Number(endpoint.slice(endpoint.lastIndexOf(":") + 1));
}

/** The port behind the control plane's, on the same address; a free one where the control plane took a free one. */
function dataEndpoint(asked: string, bound: string): string {
  const address = bound.slice(0, bound.lastIndexOf(":"));
  return asked.endsWith(":*") ? `${address}:*` : `${address}:${String(portOf(bound) + 1)}`;
}
