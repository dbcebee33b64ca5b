/**
 * The shell around the run's state machine: messages in become events, effects out become messages, thread commands and
 * files. It decides nothing itself.
 */
import { clearInterval, setInterval } from "node:timers";
import type { RunConfig } from "../src/config/schema.js";
import { runLength } from "../src/config/derived.js";
import type { Dataset } from "../src/data/dataset.js";
import { KeyQueue } from "../src/objectives/key-queue.js";
import { learningRateAt } from "../src/optim/index.js";
import type { WorkerId } from "../src/protocol/identifiers.js";
import { toFrames } from "../src/protocol/frames.js";
import type { CoordinatorMessage, RankResult, WorkerMessage } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { RouterSocket, type Received } from "../src/transport/index.js";
import type { EmbeddedAggregator } from "./embedded-aggregator.js";
import { Evaluation } from "./evaluation.js";
import type { Membership } from "./membership.js";
import { transition, type Effect, type Outcome, type RunEvent, type RunState } from "./run-state.js";
import { StepCollection, type RankMetrics } from "./step-collection.js";

/** What the run tells whoever shows it: logs, progress line, event file. */
export interface RunObserver {
  stepDone(report: StepReport): void;
  evaluated(step: number, accuracy: number): void;
  workerJoined(worker: string, workers: number): void;
  workerLeft(worker: string, reason: string, workers: number): void;
  explained(reason: string): void;
  dropped(peer: string, reason: string): void;
  /** an image that could not be decoded; `count` so far */
  corrupt(name: string, count: number): void;
  checkpointed(step: number, directory: string): void;
}

export interface StepReport extends RankMetrics {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly learningRate: number;
  readonly stepMs: number;
  readonly imagesPerSecond: number;
  readonly workers: number;
}

export interface ServerParts {
  readonly config: RunConfig;
  readonly dataset: Dataset;
  readonly embeddingDim: number;
  readonly featureDim: number;
  readonly membership: Membership;
  readonly aggregator: EmbeddedAggregator;
  readonly control: RouterSocket<WorkerMessage, CoordinatorMessage>;
  readonly queue: KeyQueue;
  readonly observer: RunObserver;
  readonly initial: RunState;
  /** stores a checkpoint of the state as it is when called; resolves with its directory once it is whole */
  readonly checkpoint: (step: number, knn: number | null) => Promise<string>;
  /** counts a sample that could not be decoded; throws past the limit */
  readonly countCorrupt: (name: string) => void;
}

export class Server {
  private state: RunState;
  private readonly events: RunEvent[] = [];
  /** who has been sent the open step's keys before its update was made */
  private keysSentTo: ReadonlySet<WorkerId> = new Set();
  private collection: StepCollection;
  private evaluation: Evaluation | null = null;
  private lastAccuracy: number | null = null;
  private stepOpenedAt = 0;
  private checkpoints: Promise<unknown> = Promise.resolve();
  private settle: { resolve: (outcome: Outcome) => void; reject: (error: unknown) => void } | null = null;

  constructor(private readonly parts: ServerParts) {
    this.state = parts.initial;
    this.collection = this.newCollection(parts.initial.step);
  }

  /** updates applied so far */
  get step(): number {
    return this.state.step;
  }

  /** Runs until the state machine ends or something fails. `signal` asks for a checkpoint and an orderly end. */
  async run(signal: AbortSignal): Promise<Outcome> {
    const { parts } = this;
    const ended = new Promise<Outcome>((resolve, reject) => (this.settle = { resolve, reject }));
    const heartbeat = setInterval(() => {
      for (const peer of parts.membership.peers()) void parts.control.send(peer, { body: "ping", ping: {} });
      this.dispatch({ kind: "tick" });
    }, parts.config.membership.heartbeatMs);
    const stop = () => {
      this.dispatch({ kind: "stop-requested" });
    };
    parts.aggregator.listen({
      held: (step, ranks) => {
        this.dispatch({ kind: "gradients-held", step, ranks });
      },
      applied: (step) => {
        this.dispatch({ kind: "applied", step });
      },
      dropped: (reason) => {
        parts.observer.dropped("data plane", reason);
      },
      failed: (error) => {
        this.fail(error);
      },
    });
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
    this.serve().catch((error: unknown) => {
      this.fail(error);
    });
    try {
      const outcome = await ended;
      await this.checkpoints;
      return outcome;
    } finally {
      clearInterval(heartbeat);
      signal.removeEventListener("abort", stop);
      await this.farewell();
    }
  }

  private newCollection(step: number): StepCollection {
    const { worldSize, batchSize } = this.parts.config.parallel;
    return new StepCollection(step, worldSize, batchSize * this.parts.embeddingDim);
  }

  private fail(error: unknown): void {
    this.settle?.reject(error);
  }

  private async serve(): Promise<void> {
    for await (const received of this.parts.control) {
      try {
        await this.receive(received);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.parts.observer.dropped(received.peer, error.message);
      }
    }
  }

  private async receive({ peer, message, frames }: Received<WorkerMessage>): Promise<void> {
    const { membership, control } = this.parts;
    if (message.body === "hello") {
      const answer = membership.hello(peer, message.hello);
      if (answer.body === "refused") this.parts.observer.dropped(peer, String(answer.refused.reason));
      await control.send(peer, answer);
      return;
    }
    if (message.body === "ready") {
      const answer = membership.ready(peer, message.ready);
      if ("refused" in answer) {
        if (answer.refused.body === "refused") {
          this.parts.observer.dropped(peer, String(answer.refused.refused.reason));
        }
        await control.send(peer, answer.refused);
        return;
      }
      this.dispatch({ kind: "worker-joined", worker: answer.admitted.id });
      return;
    }
    const session = membership.session(peer);
    if (session?.state !== "admitted") {
      if (message.body === "heartbeat" && session !== undefined) return;
      throw new WireError(`${String(message.body)} from a peer that is not admitted`);
    }
    const worker = session.id;
    this.dispatch({ kind: "heard", worker });
    switch (message.body) {
      case "heartbeat":
        return;
      case "rankResult": {
        const { rankResult } = message;
        const step = rankResult.step ?? 0;
        const rank = rankResult.rank ?? 0;
        if (step !== this.collection.step) return;
        this.collection.accept(rank, metricsOf(rankResult), frames);
        this.dispatch({ kind: "rank-result", step, rank });
        return;
      }
      case "features": {
        const step = message.features.step ?? 0;
        const chunk = message.features.chunk ?? 0;
        if (this.evaluation?.step !== step) return;
        this.evaluation.accept(chunk, frames);
        this.dispatch({ kind: "features", step, chunk });
        return;
      }
      case "corruptSample":
        this.parts.countCorrupt(message.corruptSample.name ?? "");
        return;
      case "snapshotRequest":
        this.sendQueue(worker);
        this.parts.aggregator.command({ kind: "admit", worker });
        return;
      case "goodbye":
        this.dispatch({ kind: "worker-left", worker, reason: message.goodbye.reason ?? "left" });
        return;
      case undefined:
        return;
    }
  }

  /** Events are taken one after another, and an event's effects are carried out before the next event is. */
  private dispatch(event: RunEvent): void {
    this.events.push(event);
    if (this.events.length > 1) return;
    for (let next = this.events[0]; next !== undefined; next = this.events[0]) {
      const { state, effects } = transition(this.state, next, performance.now());
      this.state = state;
      try {
        for (const effect of effects) this.carryOut(effect);
      } catch (error) {
        this.fail(error);
      }
      this.events.shift();
    }
  }

  private carryOut(effect: Effect): void {
    const { parts } = this;
    const { config, aggregator, observer, queue } = parts;
    switch (effect.kind) {
      case "admit":
        aggregator.command({ kind: "admit", worker: effect.worker });
        this.sendQueue(effect.worker);
        observer.workerJoined(effect.worker, this.state.workers.size);
        return;
      case "forget": {
        const peer = parts.membership.peerOf(effect.worker);
        if (peer !== undefined) parts.membership.forget(peer);
        aggregator.command({ kind: "forget", worker: effect.worker });
        observer.workerLeft(effect.worker, effect.reason, this.state.workers.size);
        return;
      }
      case "open-step":
        this.stepOpenedAt = performance.now();
        this.collection = this.newCollection(effect.step);
        return;
      case "assign":
        this.send(effect.worker, { body: "assignment", assignment: { step: effect.step, ranks: [...effect.ranks] } });
        return;
      case "apply":
        aggregator.command({ kind: "apply", step: effect.step, learningRate: this.learningRate(effect.step) });
        // The keys travel while the update is made; a worker that joins meanwhile gets the queue before them.
        this.keysSentTo = new Set(this.state.workers.keys());
        this.sendKeys(effect.step + 1, this.keysSentTo);
        return;
      case "publish": {
        queue.append(this.collection.keys);
        const late = [...this.state.workers.keys()].filter((worker) => !this.keysSentTo.has(worker));
        this.sendKeys(effect.step, late);
        this.reportStep(effect.step);
        return;
      }
      case "open-evaluation":
        this.evaluation = new Evaluation(effect.step, config, parts.dataset, parts.featureDim);
        return;
      case "request-features": {
        const chunk = this.evaluation?.chunks[effect.chunk];
        if (chunk === undefined) throw new Error(`chunk ${String(effect.chunk)} does not exist`);
        const { split, start, count } = chunk;
        const featureRequest = { step: effect.step, chunk: effect.chunk, testSplit: split === "test", start, count };
        this.send(effect.worker, { body: "featureRequest", featureRequest });
        return;
      }
      case "classify":
        this.later(this.classify(effect.step));
        return;
      case "checkpoint":
        this.checkpoints = Promise.all([this.checkpoints, this.writeCheckpoint(effect.step)]);
        this.later(this.checkpoints);
        return;
      case "end":
        this.settle?.resolve(effect.outcome);
        return;
      case "explain":
        observer.explained(effect.reason);
        return;
    }
  }

  private later(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      this.fail(error);
    });
  }

  private async classify(step: number): Promise<void> {
    const accuracy = await this.evaluation?.classify();
    this.evaluation = null;
    if (accuracy === undefined) return;
    this.lastAccuracy = accuracy;
    this.parts.observer.evaluated(step, accuracy);
    this.dispatch({ kind: "classified", step });
  }

  private async writeCheckpoint(step: number): Promise<void> {
    const directory = await this.parts.checkpoint(step, this.lastAccuracy);
    this.parts.observer.checkpointed(step, directory);
  }

  private send(worker: WorkerId, message: CoordinatorMessage, frames: readonly Uint8Array[] = []): void {
    const peer = this.parts.membership.peerOf(worker);
    if (peer === undefined) return;
    this.later(
      this.parts.control.send(peer, message, frames).then((sent) => {
        if (!sent) this.dispatch({ kind: "worker-left", worker, reason: "its connection is closed or stalled" });
      }),
    );
  }

  /** @param version steps whose keys are in the queue with these */
  private sendKeys(version: number, workers: Iterable<WorkerId>): void {
    const block: CoordinatorMessage = { body: "queueBlock", queueBlock: { version } };
    for (const worker of workers) this.send(worker, block, toFrames(this.collection.keys));
  }

  private sendQueue(worker: WorkerId): void {
    // A copy: the ring is written again while ZeroMQ may still be sending it.
    const frames = toFrames(this.parts.queue.keys.slice());
    this.send(worker, { body: "queueSnapshot", queueSnapshot: { version: this.state.step } }, frames);
  }

  private learningRate(step: number): number {
    const { optimizer } = this.parts.config;
    const { stepsPerEpoch, totalSteps } = this.length();
    const warmupSteps = Math.round(optimizer.warmupEpochs * stepsPerEpoch);
    return learningRateAt(step, { peak: optimizer.learningRate, warmupSteps, totalSteps });
  }

  private length() {
    return runLength(this.parts.config, this.parts.dataset.splits.train.length);
  }

  private reportStep(step: number): void {
    const { stepsPerEpoch, totalSteps, globalBatch } = this.length();
    const stepMs = performance.now() - this.stepOpenedAt;
    this.parts.observer.stepDone({
      ...this.collection.means(),
      step,
      totalSteps,
      epoch: Math.floor((step - 1) / stepsPerEpoch),
      learningRate: this.learningRate(step - 1),
      stepMs,
      imagesPerSecond: (globalBatch / stepMs) * 1000,
      workers: this.state.workers.size,
    });
  }

  private async farewell(): Promise<void> {
    const reason = this.state.phase.kind === "ended" ? `the run has ${this.state.phase.outcome}` : "the run has failed";
    const { membership, control } = this.parts;
    await Promise.all(
      membership
        .peers()
        .map((peer) => control.send(peer, { body: "finished", finished: { reason } }).catch(() => false)),
    );
    control.close();
  }
}

function metricsOf(result: RankResult): RankMetrics {
  const timings = result.timings ?? {};
  return {
    loss: result.loss ?? 0,
    accuracy: result.accuracy ?? 0,
    positiveSimilarity: result.positiveSimilarity ?? 0,
    negativeSimilarity: result.negativeSimilarity ?? 0,
    loadMs: timings.loadMs ?? 0,
    forwardMs: timings.forwardMs ?? 0,
    backwardMs: timings.backwardMs ?? 0,
    exchangeMs: timings.exchangeMs ?? 0,
    graphMs: timings.graphMs ?? 0,
  };
}
