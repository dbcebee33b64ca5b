/** A coordinator process: opens the run, starts its planes, and serves until the run ends. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import {
  checkpointSteps,
  latestCheckpoint,
  checkpointDirectory,
  lockRun,
  openRunDirectory,
  readCheckpoint,
  readRunConfig,
  readRunId,
  runFiles,
  type RunLock,
} from "../src/checkpoint/index.js";
import { queueRowLength, runLength, roundsOf, usesLabels, usesQueue, weightsPrecision } from "../src/config/derived.js";
import { optimizerVectors, updateRule } from "../src/config/optimizer.js";
import { checkAgainstDataset } from "../src/config/resolve.js";
import type { RunConfig } from "../src/config/schema.js";
import { CorruptLimit, labelledLength, openRunDataset, type ImageDataset, type RunDataset } from "../src/data/index.js";
import { architectureOf } from "../src/models/architecture.js";
import { initialBuffers, initialParameters, type ParameterLayout } from "../src/models/parameters.js";
import type { Wire } from "../src/models/exchange.js";
import { layerSlices } from "../src/models/treatment.js";
import { KeyQueue, NO_LABEL } from "../src/objectives/key-queue.js";
import { tryMethodApart } from "../src/objectives/try-method.js";
import { keyMomentumAt, learningRateAt } from "../src/optim/index.js";
import { UserError } from "../src/protocol/errors.js";
import { runId, type RunId } from "../src/protocol/identifiers.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import { anyPort, nextPort, openGuard, type Guard, type ServerKeys } from "../src/transport/index.js";
import type { TrainingState } from "./aggregator.js";
import { ControlSocket, serveRun } from "./control-plane.js";
import {
  checkAggregators,
  EmbeddedSupply,
  RemoteSupply,
  type Provided,
  type Supply,
  type SupplyOptions,
} from "./aggregator-supply.js";
import { Evaluation, evaluationChunks } from "./evaluation.js";
import {
  initialisedBy,
  readInitialWeights,
  storedInitialWeights,
  type InitialReport,
  type InitialWeights,
} from "./initial-weights.js";
import { Membership } from "./membership.js";
import { toAll } from "./observers.js";
import { Pictures } from "./pictures.js";
import { initialState, type Outcome, type RunPlan } from "./run-state.js";
import type { Health } from "../src/telemetry/index.js";
import type { RunObserver, Schedule } from "./server.js";
import { SamplesPlane } from "./samples-plane.js";
import { fromGroups } from "./stored-state.js";

export interface CoordinatorOptions {
  readonly config: RunConfig;
  /** control plane, `tcp://ADDRESS:PORT`; the data plane, or the aggregation plane, takes the next port */
  readonly listen: string;
  /** processes that aggregate, each with a parameter shard; null: a thread of the coordinator does */
  readonly aggregators: number | null;
  readonly wire: Wire;
  /** whether gradients leave shard by shard while the rest is computed; never part of the result */
  readonly overlaps: boolean;
  /** whether workers without a data set are sent samples */
  readonly streamsData: boolean;
  /** CURVE keys; null: whoever reaches the ports may speak */
  readonly keys: ServerKeys | null;
  /** run directory */
  readonly out: string;
  readonly resume: boolean;
  /** safetensors with weights of the backbone that θq and θk begin with; null: drawn, or the run's own when resumed */
  readonly init?: string | null;
  /** asks for a checkpoint and an orderly end */
  readonly signal: AbortSignal;
  /**
   * Whether a supervisor starts it again whenever it ends: where `signal` aborts, workers wait for the next; after the run's end it stays until
   * then, and tells whoever comes that it is over.
   */
  readonly isSupervised?: boolean | undefined;
  /** whether the observer is given histograms of the state with each checkpoint */
  readonly histograms?: boolean | undefined;
  /** whether there is anybody to make pictures for */
  readonly pictures?: boolean | undefined;
  /** is told at every turn of the loop */
  readonly health?: Health | undefined;
  /** `step`: where the run goes on; `reproducible`: whether all that it builds on can be repeated bit for bit */
  readonly onListening?: (info: {
    readonly control: string;
    readonly step: number;
    readonly reproducible: boolean;
    /** how the weights of `init` fared; null where the run does not begin now, or begins without */
    readonly initial: InitialReport | null;
  }) => void;
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
  const { config, out } = options;
  const dataset = await openRunDataset(config.data.spec, config);
  const pictures = options.pictures === true && dataset.modality === "image" ? picturesOf(options, dataset) : null;
  const observer = pictures === null ? options.observer : toAll(options.observer, pictures);
  const { train } = dataset.splits;
  checkAgainstDataset(config, { length: train.length, unlabelled: train.length - labelledLength(train) });
  const [architecture] = await Promise.all([architectureOf(config), tryMethodApart(config)]);
  const { layout } = architecture;
  const layers = layerSlices(layout, config.optimizer, weightsPrecision(config));
  const rule = updateRule(config.optimizer);
  const asked = options.init == null ? null : await readInitialWeights(options.init);
  const openDirectory = async (
    how: { readonly resume: true } | { readonly resume: false; readonly id: string; readonly init?: Uint8Array },
  ) => {
    // Locked before anything is written: of two that begin a run in one directory at once, one finds it taken.
    await lock.take();
    await openRunDirectory(out, { config, manifestHash: dataset.manifestHash, ...how });
  };
  if (options.resume) {
    await readRunConfig(out);
    await openDirectory({ resume: true });
  }

  const init = options.resume ? await storedInitialWeights(out, asked) : asked;
  const begun: Begun & Beginning = options.resume
    ? await resumed(out, config, layout, dataset, init)
    : {
        ...fresh(config, layout, init),
        id: runId(randomBytes(8).toString("hex")),
        fingerprint: null,
        reproducible: true,
      };
  const { totalSteps } = runLength(config, dataset.splits.train.length);

  const strangers: { refused: (reason: string) => void } = { refused: () => undefined };
  const guarded =
    options.keys === null
      ? null
      : await openGuard(options.keys, (reason) => {
          strangers.refused(reason);
        });
  checkAggregators({ layout, layers, rule, worldSize: config.parallel.worldSize }, options.aggregators ?? 1);
  const { control, endpoint, supply } = await openPlanes(options, guarded?.guard ?? null);
  strangers.refused = (reason) => {
    control.refused(reason);
  };
  let samples: SamplesPlane | null = null;
  let provided: Provided | null = null;
  let step = begun.state?.version ?? 0;
  let outcome: Outcome = "failed";
  let pulse: NodeJS.Timeout | null = null;
  try {
    const { worldSize, gradients } = config.parallel;
    const { wire } = options;
    const need = { layout, layers, rule, worldSize, gradients, wire, runId: begun.id };
    // A port in use must not leave a run behind.
    if (!supply.waits) provided = await supply.provide({ ...need, state: handOver(begun) });
    if (options.streamsData) {
      const { spec, decodeSize } = config.data;
      const after = options.listen.endsWith(":*") ? anyPort(endpoint) : nextPort(endpoint, 2);
      const data = { spec, decodeSize, runId: begun.id, endpoint: after, guard: guarded?.guard ?? null };
      samples = await SamplesPlane.start(data, (peer, reason) => {
        observer.dropped(peer, reason);
      });
    }
    if (!options.resume) {
      await openDirectory({ resume: false, id: begun.id, ...(init === null ? {} : { init: init.bytes }) });
    }
    const membership = new Membership(
      {
        runId: begun.id,
        config,
        softwareVersion: SOFTWARE_VERSION,
        manifestHash: dataset.manifestHash,
        rounds: roundsOf(config, layout.bufferCount),
        overlaps: options.overlaps,
        newTicket: () => randomBytes(16).toString("hex"),
      },
      begun.fingerprint,
    );
    membership.samplesPort = samples?.port ?? null;
    const corrupt = new CorruptLimit(config.data.maxCorrupt);
    options.onListening?.({
      control: endpoint,
      step,
      reproducible: begun.reproducible,
      initial: begun.initial,
    });
    const life = async ({ queue, reproducible }: Begun, { shards, handles, addresses }: Provided, from: number) => {
      membership.aggregators = addresses;
      return serveRun(
        control,
        {
          parts: {
            membership,
            queue,
            schedule: scheduleOf(config, dataset),
            keysPerRank: config.parallel.batchSize * queueRowLength(config),
            initial: initialState(planOf(config, dataset, totalSteps), from),
          },
          aggregation: { layout, shards, rule, clipNorm: config.optimizer.clipNorm },
          aggregators: handles,
          checkpoints: { config, layout, out, histograms: options.histograms === true },
          describe: (knn) => ({
            runId: begun.id,
            config,
            manifestHash: dataset.manifestHash,
            engineFingerprint: membership.engineFingerprint,
            init: init?.sha256,
            architecture: config.model.encoder,
            queuePosition: queue.position,
            reproducible: reproducible && !membership.isMixed,
            knn,
          }),
          heartbeatMs: config.membership.heartbeatMs,
          comesBack: options.isSupervised === true,
          observer,
          openEvaluation: (at) => new Evaluation(at, config, dataset, architecture.featureDim, at === totalSteps),
          countCorrupt: (name) => {
            if (corrupt.count(name)) observer.corrupt(name, corrupt.size);
          },
        },
        { stop: AbortSignal.any([options.signal, ...(samples === null ? [] : [samples.failed])]), lost: lock.lost },
      );
    };
    let lastCheckpoint = options.resume ? checkpointDirectory(out, step) : null;
    let now: Begun = begun;
    pulse = setInterval(() => {
      options.health?.turned(provided === null ? "waiting for aggregators" : null);
    }, config.membership.heartbeatMs);
    if (options.isSupervised === true && step >= totalSteps) {
      // Nobody is needed for what is over.
      outcome = "finished";
      await linger(control, supply, options);
      return { outcome, step, totalSteps, checkpoint: lastCheckpoint };
    }
    if (step >= totalSteps)
      observer.explained(`all ${String(totalSteps)} steps were made before: nothing is left to do`);
    for (;;) {
      provided ??= await supply.provide({ ...need, state: handOver(now) });
      if (provided === null) {
        outcome = "stopped";
        if (options.isSupervised !== true) await sendAway(control, outcome);
        return { outcome, step, totalSteps, checkpoint: lastCheckpoint };
      }
      const { end, reason, step: reached, checkpoint } = await life(now, provided, step);
      lastCheckpoint = checkpoint ?? lastCheckpoint;
      if (end !== null) {
        outcome = end.outcome;
        if (samples?.failed.aborted === true) throw samples.failed.reason;
        if (end.failure !== null) throw new UserError(end.failure.code, end.failure.message);
        if (end.outcome === "finished" && options.isSupervised === true) await linger(control, supply, options);
        return { outcome: end.outcome, step: reached, totalSteps, checkpoint: lastCheckpoint };
      }
      observer.explained(reason);
      await supply.retire(reason);
      provided = null;
      now = await resumed(out, config, layout, dataset, init);
      step = now.state?.version ?? 0;
      observer.wentBack(step);
    }
  } finally {
    if (pulse !== null) clearInterval(pulse);
    control.close();
    await samples?.close();
    // What is supervised is stopped to be started again.
    if (options.isSupervised !== true || outcome !== "stopped") supply.farewell(`the run has ${outcome}`);
    await supply.close();
    guarded?.close();
    await pictures?.close(outcome === "finished");
  }
}

/** How long workers who were turned away may take to come again and hear that the run is over, in ms. */
const FAREWELL_MS = 3000;
/** Who was turned away so long ago has given up, in ms. */
const MAY_COME_BACK_MS = 10_000;

/** The run is over, and stays so until it is asked to stop. */
async function linger(control: ControlSocket, supply: Supply, { observer, signal }: CoordinatorOptions): Promise<void> {
  observer.explained("the run has finished; whoever comes is told so (--supervised)");
  control.turnAway("the run has finished", true);
  supply.farewell("the run has finished");
  if (!signal.aborted) await once(signal, "abort");
}

/** The run ends before it had a server. */
async function sendAway(control: ControlSocket, outcome: Outcome): Promise<void> {
  control.turnAway(`the run has ${outcome}`, true);
  const { turnedAwayAt } = control;
  if (turnedAwayAt !== null && performance.now() - turnedAwayAt < MAY_COME_BACK_MS) await sleep(FAREWELL_MS);
}

/** Ports tried in turn for two that follow each other, where any will do. */
const MOST_TRIES = 20;

/** The control plane, and behind it, on the next port, the data plane or the aggregation plane. */
async function openPlanes(
  { listen, aggregators, config, keys, signal, observer }: CoordinatorOptions,
  guard: Guard | null,
): Promise<{ readonly control: ControlSocket; readonly endpoint: string; readonly supply: Supply }> {
  const { heartbeatMs, deadAfterMs } = config.membership;
  for (let tries = 1; ; tries++) {
    const control = new ControlSocket(guard);
    try {
      const endpoint = await control.bind(listen);
      const options: SupplyOptions = {
        ...{ guard, heartbeatMs, deadAfterMs, signal },
        endpoint: nextPort(endpoint),
        allowed: keys === null ? null : Object.values(keys.workers),
        explained: (reason) => {
          observer.explained(reason);
          control.turnAway(reason);
        },
        dropped: (peer, reason) => {
          observer.dropped(peer, reason);
        },
      };
      if (aggregators !== null) {
        return { control, endpoint, supply: await RemoteSupply.open(aggregators, options) };
      }
      const own = listen.endsWith(":*") ? { ...options, endpoint: anyPort(endpoint) } : options;
      return { control, endpoint, supply: new EmbeddedSupply(own) };
    } catch (error) {
      control.close();
      const isTaken = error instanceof UserError && error.code === "PORT_IN_USE";
      if (!isTaken || !listen.endsWith(":*") || tries === MOST_TRIES) throw error;
    }
  }
}

function picturesOf({ config, out, observer }: CoordinatorOptions, dataset: ImageDataset): Pictures {
  const { stepsPerEpoch } = runLength(config, dataset.splits.train.length);
  const isEvaluated = config.evaluation.everyEpochs > 0 && evaluationChunks(config, dataset).length > 0;
  return new Pictures({ dataset, config, stepsPerEpoch, isEvaluated, directory: runFiles(out).pictures, observer });
}

function scheduleOf(config: RunConfig, dataset: RunDataset): Schedule {
  const length = runLength(config, dataset.splits.train.length);
  const { totalSteps, stepsPerEpoch } = length;
  const { schedule: kind, learningRate: peak, warmupEpochs } = config.optimizer;
  const { keyMomentum: start, keyMomentumSchedule } = config.moco;
  const warmupSteps = Math.round(warmupEpochs * stepsPerEpoch);
  return {
    ...length,
    rates: (step) => ({
      learningRate: learningRateAt(step, { kind, peak, warmupSteps, totalSteps }),
      keyMomentum: keyMomentumAt(step, { kind: keyMomentumSchedule, start, totalSteps }),
    }),
  };
}

function planOf(config: RunConfig, dataset: RunDataset, totalSteps: number): RunPlan {
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

function fresh(
  config: RunConfig,
  layout: ParameterLayout,
  init: InitialWeights | null,
): { state: TrainingState; queue: KeyQueue; initial: InitialReport | null } {
  const drawn = { parameters: initialParameters(layout, config.seed), buffers: initialBuffers(layout) };
  const imported = init === null ? null : initialisedBy(init, layout, drawn);
  const start = imported?.state ?? drawn;
  const { parameters: query, buffers } = start;
  return {
    initial: imported?.report ?? null,
    state: {
      version: 0,
      updates: 0,
      query,
      key: query,
      optimizer: optimizerVectors(config.optimizer.kind).map(() => new Float32Array(layout.parameterCount)),
      queryBuffers: buffers,
      keyBuffers: buffers,
    },
    queue: KeyQueue.random(
      config.moco.queueSize,
      usesQueue(config) ? config.model.embeddingDim : 0,
      config.seed,
      usesQueue(config) && usesLabels(config) ? NO_LABEL : null,
    ),
  };
}

/** What one life of the run begins with. */
interface Begun {
  /** null: it has been handed over, and is as large as what the aggregators hold */
  state: TrainingState | null;
  readonly queue: KeyQueue;
  /** whether all that it builds on can be repeated bit for bit */
  readonly reproducible: boolean;
}

/** What only the first life begins with. */
interface Beginning {
  readonly id: RunId;
  readonly fingerprint: string | null;
  readonly initial: InitialReport | null;
}

function handOver(begun: Begun): TrainingState {
  const { state } = begun;
  if (state === null) throw new Error("a state is handed over once");
  begun.state = null;
  return state;
}

async function resumed(
  out: string,
  config: RunConfig,
  layout: ParameterLayout,
  dataset: RunDataset,
  init: InitialWeights | null,
) {
  // It ended before its first checkpoint; the state at step 0 is a function of the config and the weights given.
  if ((await checkpointSteps(out)).length === 0) {
    return { ...fresh(config, layout, init), id: runId(await readRunId(out)), fingerprint: null, reproducible: true };
  }
  const directory = await latestCheckpoint(out);
  const checkpoint = await readCheckpoint(directory);
  if (checkpoint.meta.manifestHash !== dataset.manifestHash) {
    throw new UserError(
      "MANIFEST_MISMATCH",
      `${directory} was trained on another data set than ${config.data.spec}: resume with the same files`,
    );
  }
  const own = await readRunId(out);
  if (checkpoint.meta.runId !== own) {
    throw new UserError(
      "CHECKPOINT_FOREIGN",
      `${directory} is of another run (${checkpoint.meta.runId}, this one is ${own}): take it out of the run directory`,
    );
  }
  const { state, queue } = fromGroups(layout, checkpoint, config, directory);
  const { runId: id, engineFingerprint: fingerprint, reproducible } = checkpoint.meta;
  return { state, queue, id: runId(id), fingerprint, reproducible, initial: null };
}
