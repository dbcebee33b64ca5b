/**
 * One worker's conversation with its run: handshake, updates in, ranks executed, results out. Runs on the main thread
 * and only waits: the engine and the data set live in threads of their own.
 */
import type { RunConfig } from "../src/config/schema.js";
import { UserError } from "../src/protocol/errors.js";
import { fromFrames, sharedFloats, toFrames } from "../src/protocol/frames.js";
import {
  aggregatorCodec,
  coordinatorCodec,
  workerCodec,
  workerDataCodec,
  type AggregatorMessage,
  type CoordinatorMessage,
  type FeatureRequest,
  type Welcome,
  type WorkerDataMessage,
  type WorkerMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { DealerSocket } from "../src/transport/index.js";
import { SharedExchange } from "./shared-exchange.js";
import { IncomingWeights, type WeightVectors } from "./incoming-weights.js";
import type { RankOutcome } from "./rank-computer.js";

/** What the session needs of the engine's and the loader's threads. */
export interface Executor {
  readonly layout: ParameterLayout;
  /** @param vectors unwritten until the next call has returned */
  setWeights(version: number, vectors: WeightVectors): Promise<unknown>;
  setQueue(version: number, keys: Float32Array): Promise<unknown>;
  appendKeys(block: Float32Array): Promise<unknown>;
  /**
   * One rank of a step.
   * @param flush hands out the partial sums so far
   * @param segment shared memory where the first of them goes; null: none
   */
  run(
    step: number,
    rank: number,
    flush: boolean,
    segment: number | null,
  ): Promise<RankOutcome & { readonly loadMs: number }>;
  prefetch(step: number, ranks: readonly number[]): void;
  features(request: { split: "train" | "test"; start: number; count: number }): Promise<Float32Array>;
}

export interface SessionOptions {
  /** control plane, `tcp://HOST:PORT` */
  readonly endpoint: string;
  readonly hello: { protocolVersion: number; softwareVersion: string; host: string; pid: number; threads: number };
  /** starts engine and data set for the run that the coordinator names */
  readonly prepare: (
    config: RunConfig,
    onCorrupt: (name: string) => void,
  ) => Promise<{ executor: Executor; manifestHash: string; engineFingerprint: string; device: string }>;
  readonly log: (message: string) => void;
}

/** How long the coordinator may take to answer hello before the worker gives up, in ms. */
const WELCOME_TIMEOUT_MS = 60_000;

export async function runSession(options: SessionOptions, signal: AbortSignal): Promise<void> {
  const onDrop = (_peer: string, error: WireError) => {
    options.log(`dropped: ${error.message}`);
  };
  const control = new DealerSocket<CoordinatorMessage, WorkerMessage>(coordinatorCodec, workerCodec, onDrop);
  try {
    control.connect(options.endpoint);
    await new Session(options, control, onDrop).run(signal);
  } finally {
    control.close();
  }
}

class Session {
  private executor: Executor | null = null;
  private data: DealerSocket<AggregatorMessage, WorkerDataMessage> | null = null;
  private shared: SharedExchange | null = null;
  private runId = "";
  private weightsVersion = -1;
  private queueVersion = -1;
  private step = -1;
  /** ranks of `step` still to execute, and those executed */
  private readonly ranks: number[] = [];
  private executed: { step: number; ranks: number[] } = { step: -1, ranks: [] };
  private readonly featureRequests: FeatureRequest[] = [];
  private pumping = false;
  private lastResultAt = performance.now();
  private heardAt = performance.now();
  private config: RunConfig | null = null;
  private end: { resolve: () => void; reject: (error: unknown) => void } | null = null;

  constructor(
    private readonly options: SessionOptions,
    private readonly control: DealerSocket<CoordinatorMessage, WorkerMessage>,
    private readonly onDrop: (peer: string, error: WireError) => void,
  ) {}

  async run(signal: AbortSignal): Promise<void> {
    const ended = new Promise<void>((resolve, reject) => (this.end = { resolve, reject }));
    const leave = () => {
      this.say({ body: "goodbye", goodbye: { reason: "asked to stop" } });
      this.end?.resolve();
    };
    if (signal.aborted) return;
    signal.addEventListener("abort", leave, { once: true });
    this.later(this.listenToCoordinator());
    this.options.log(`waiting for the coordinator at ${this.options.endpoint}`);
    this.say({ body: "hello", hello: this.options.hello });
    const watch = setInterval(() => {
      this.watch();
    }, 500);
    try {
      await ended;
    } finally {
      clearInterval(watch);
      signal.removeEventListener("abort", leave);
      this.data?.close();
      this.shared?.close();
    }
  }

  private say(message: WorkerMessage, frames: readonly Uint8Array[] = []): void {
    this.later(this.control.send(message, frames));
  }

  /** Work that nobody awaits: its failure ends the session. */
  private later(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      this.end?.reject(error);
    });
  }

  /** Heartbeats out; a coordinator that is silent for too long is given up. */
  private watch(): void {
    const silence = performance.now() - this.heardAt;
    const { endpoint } = this.options;
    if (this.config === null) {
      if (silence > WELCOME_TIMEOUT_MS) {
        const message = `no coordinator answers at ${endpoint}: start it first, or check the address`;
        this.end?.reject(new UserError("NO_COORDINATOR", message));
      }
      return;
    }
    this.say({ body: "heartbeat", heartbeat: {} });
    // Getting ready may take the coordinator's whole machine; silence counts against many heartbeats.
    if (silence > 10 * this.config.membership.deadAfterMs) {
      const message = `the coordinator at ${endpoint} has been silent for ${String(Math.round(silence / 1000))} s: see its log`;
      this.end?.reject(new UserError("COORDINATOR_LOST", message));
    }
  }

  private async listenToCoordinator(): Promise<void> {
    for await (const { message, frames } of this.control) {
      this.heardAt = performance.now();
      try {
        await this.hear(message, frames);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.onDrop("coordinator", error);
      }
    }
  }

  private async hear(message: CoordinatorMessage, frames: readonly Uint8Array[]): Promise<void> {
    switch (message.body) {
      case "welcome":
        // Not awaited: pings go on while the engine starts.
        this.later(this.welcome(message.welcome));
        return;
      case "refused":
        throw new UserError(
          message.refused.code ?? "REFUSED",
          `the coordinator refused: ${message.refused.reason ?? ""}`,
        );
      case "queueSnapshot": {
        const { config, executor } = this.ready();
        const keys = sharedFloats(config.moco.queueSize * config.model.embeddingDim);
        fromFrames(frames, keys);
        this.queueVersion = message.queueSnapshot.version ?? 0;
        await executor.setQueue(this.queueVersion, keys);
        this.pump();
        return;
      }
      case "queueBlock":
        await this.appendBlock(message.queueBlock.version ?? 0, frames);
        return;
      case "assignment": {
        const step = message.assignment.step ?? 0;
        if (step !== this.step) this.ranks.length = 0;
        this.step = step;
        this.ranks.push(...(message.assignment.ranks ?? []));
        this.ready().executor.prefetch(step, this.ranks);
        this.pump();
        return;
      }
      case "featureRequest":
        this.featureRequests.push(message.featureRequest);
        this.pump();
        return;
      case "finished":
        this.options.log(message.finished.reason ?? "finished");
        this.end?.resolve();
        return;
      case "ping":
      case undefined:
        return;
    }
  }

  private ready(): { config: RunConfig; executor: Executor } {
    const { config, executor } = this;
    if (config === null || executor === null) throw new WireError("a message before the handshake was over");
    return { config, executor };
  }

  private async welcome({ runId, configJson, dataPort, workerId }: Welcome): Promise<void> {
    // The config was validated by the coordinator of this very version.
    const config = JSON.parse(configJson ?? "{}") as RunConfig;
    this.config = config;
    this.runId = runId ?? "";
    this.options.log(`welcome to ${this.runId} as ${workerId ?? ""}`);
    const { executor, manifestHash, engineFingerprint, device } = await this.options.prepare(config, (name) => {
      this.say({ body: "corruptSample", corruptSample: { name } });
    });
    this.executor = executor;
    this.data = new DealerSocket<AggregatorMessage, WorkerDataMessage>(aggregatorCodec, workerDataCodec, this.onDrop);
    this.data.connect(`${this.options.endpoint.slice(0, this.options.endpoint.lastIndexOf(":"))}:${String(dataPort)}`);
    this.shared = SharedExchange.offer(executor.layout);
    this.later(this.listenToAggregator(this.data, executor));
    const segment = this.shared?.address;
    await this.data.send({ body: "open", open: { runId: this.runId, workerId: workerId ?? "", segment } });
    this.say({ body: "ready", ready: { manifestHash, engineFingerprint, device } });
  }

  private async listenToAggregator(
    data: DealerSocket<AggregatorMessage, WorkerDataMessage>,
    executor: Executor,
  ): Promise<void> {
    const incoming = new IncomingWeights(executor.layout, this.ready().config.moco.keyMomentum, this.shared);
    for await (const { message, frames } of data) {
      if (message.body !== "weights" || message.weights.runId !== this.runId) continue;
      try {
        const whole = incoming.take(message.weights, frames);
        if (whole === null) continue;
        await data.send({ body: "received", received: { runId: this.runId, version: whole.version } });
        await executor.setWeights(whole.version, whole.vectors);
        this.weightsVersion = whole.version;
        this.pump();
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.onDrop("aggregator", error);
      }
    }
  }

  private async appendBlock(version: number, frames: readonly Uint8Array[]): Promise<void> {
    const { config, executor } = this.ready();
    if (version <= this.queueVersion) return;
    if (version !== this.queueVersion + 1) {
      this.say({ body: "snapshotRequest", snapshotRequest: { queueVersion: Math.max(0, this.queueVersion) } });
      return;
    }
    const { worldSize, batchSize } = config.parallel;
    const block = sharedFloats(worldSize * batchSize * config.model.embeddingDim);
    fromFrames(frames, block);
    this.queueVersion = version;
    await executor.appendKeys(block);
    this.pump();
  }

  /** Executes what is due, one piece after another, as long as weights and queue are those of the step. */
  private pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    this.later(
      this.work().finally(() => {
        this.pumping = false;
      }),
    );
  }

  private async work(): Promise<void> {
    for (;;) {
      const request = this.featureRequests[0];
      if (request !== undefined && this.weightsVersion === (request.step ?? 0)) {
        this.featureRequests.shift();
        await this.executeFeatures(request);
        continue;
      }
      const isCurrent = this.weightsVersion === this.step && this.queueVersion === this.step;
      const rank = isCurrent ? this.ranks.shift() : undefined;
      if (rank === undefined) return;
      await this.executeRank(this.step, rank);
    }
  }

  private async executeFeatures({ step, chunk, testSplit, start, count }: FeatureRequest): Promise<void> {
    const { executor } = this.ready();
    const split = testSplit === true ? "test" : "train";
    const features = await executor.features({ split, start: start ?? 0, count: count ?? 0 });
    this.say({ body: "features", features: { step: step ?? 0, chunk: chunk ?? 0 } }, toFrames(features));
  }

  private async executeRank(step: number, rank: number): Promise<void> {
    const { executor } = this.ready();
    const exchangeMs = performance.now() - this.lastResultAt;
    const isLast = this.ranks.length === 0;
    const segment = isLast && this.shared?.claimGradient(step) === true ? this.shared.file : null;
    const running = executor.run(step, rank, isLast, segment);
    // The same ranks are likely to come next: their images load while this rank computes, and after its own.
    if (this.executed.step !== step) this.executed = { step, ranks: [] };
    this.executed.ranks.push(rank);
    if (isLast) executor.prefetch(step + 1, this.executed.ranks);
    const outcome = await running;
    for (const { node, sum } of outcome.nodes) {
      const gradient = { runId: this.runId, step, level: node.level, index: node.index, shared: sum === null };
      await this.data?.send({ body: "gradient", gradient }, sum === null ? [] : toFrames(sum));
    }
    const { loss, accuracy, positiveSimilarity, negativeSimilarity, loadMs, forwardMs, backwardMs, graphMs } = outcome;
    const timings = { loadMs, forwardMs, backwardMs, exchangeMs, graphMs };
    const rankResult = { step, rank, loss, accuracy, positiveSimilarity, negativeSimilarity, timings };
    this.say({ body: "rankResult", rankResult }, toFrames(outcome.keys));
    this.lastResultAt = performance.now();
  }
}
