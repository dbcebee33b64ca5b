/**
 * The coordinator's end of the control plane: messages become events of the run's state machine, its effects become messages
 * and commands. It decides nothing about the run itself. No socket, clock, thread or file in here: `ServerPorts` are all it
 * touches, so a simulation can drive it.
 */
import type { WorkerId } from "../src/protocol/identifiers.js";
import { toFrames } from "../src/protocol/frames.js";
import {
  MOST_DEVICES,
  type CoordinatorMessage,
  type Drain,
  type Features,
  type Hello,
  type Holding,
  type RankEmbeddings,
  type RankResult,
  type Ready,
  type WorkerMessage,
} from "../src/protocol/wire.js";
import type { RankMetrics } from "../src/protocol/rank-metrics.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { KeyQueue } from "../src/objectives/key-queue.js";
import type { JoinedWorker, Moment, PictureNote, StepNumbers } from "../src/telemetry/index.js";
import type { StepRates } from "./aggregator.js";
import type { AggregationCommand, AggregationReport } from "./aggregators.js";
import { DropLog } from "./drop-log.js";
import type { OpenEvaluation } from "./evaluation.js";
import type { Scores } from "./evaluation-thread.js";
import type { Membership, Refusal, Session } from "./membership.js";
import { transition } from "./run-transition.js";
import type { Effect, End, RunEvent, RunState } from "./run-state.js";
import type { StateHistogram } from "./state-histograms.js";
import { StepCollection } from "./step-collection.js";

/** What the run tells whoever shows it: logs, progress line, event file. */
export interface RunObserver {
  stepDone(report: StepReport): void;
  stepSkipped(step: number): void;
  evaluated(step: number, scores: Scores): void;
  /** a picture was made, and lies in the run directory */
  pictured(note: PictureNote, png: Uint8Array): void;
  /** pictures could not be made; is told of it once */
  notPictured(reason: string): void;
  /** @param workers here by now */
  workerJoined(joined: JoinedWorker, workers: number): void;
  workerLeft(worker: string, reason: string, workers: number): void;
  straggler(worker: string, slow: boolean, paceMs: number, medianMs: number): void;
  /** a worker computes other bits: the run can no longer be repeated */
  notReproducible(worker: string, fingerprints: string): void;
  explained(reason: string): void;
  dropped(peer: string, reason: string): void;
  /** an image that could not be decoded; `count` so far */
  corrupt(name: string, count: number): void;
  /** @param histograms of the state in it, where they were asked for */
  checkpointed(step: number, directory: string, histograms: readonly StateHistogram[]): void;
  /** an aggregator was lost, and the run goes on from the checkpoint of step `step` */
  wentBack(step: number): void;
  happened(moment: Moment): void;
}

export interface StepReport extends StepNumbers {
  readonly step: number;
}

/** Lengths and rates that follow from config and data set. */
export interface Schedule {
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  readonly globalBatch: number;
  readonly rates: (step: number) => StepRates;
}

/** Everything outside that the server touches. Nothing of it answers at once: answers come by the server's methods. */
export interface ServerPorts {
  /** monotonic clock in ms */
  readonly now: () => number;
  /** what cannot be sent comes back as `unreachable` */
  readonly send: (peer: string, message: CoordinatorMessage, frames: readonly Uint8Array[]) => void;
  /** answered by `reported` */
  readonly command: (command: AggregationCommand) => void;
  readonly openEvaluation: (step: number) => OpenEvaluation;
  /** answered by `classified` */
  readonly classify: (evaluation: OpenEvaluation) => void;
  /** stores the state as it is when called; answered by `checkpointWritten` or `checkpointFailed` */
  readonly checkpoint: (step: number, knn: number | null) => void;
  /** hex sha256 of values */
  readonly digest: (values: Float32Array) => string;
  /** counts a sample that could not be decoded; throws past the limit */
  readonly countCorrupt: (name: string) => void;
  readonly ended: (end: End) => void;
  readonly observer: RunObserver;
}

export interface ServerParts {
  readonly membership: Membership;
  readonly queue: KeyQueue;
  readonly schedule: Schedule;
  /** values that one rank adds to the queue (B·D) */
  readonly keysPerRank: number;
  readonly initial: RunState;
}

/** Messages of one peer that may be dropped before it is cut off. */
export const MAX_STRIKES = 100;
/** A worker that was lost so long ago has given up or is dead, in ms. */
const MAY_COME_BACK_MS = 30_000;
/** Strangers who are told that they have no part in the run, between two ticks. */
const MOST_TURNED_AWAY = 64;

export class Server {
  private state: RunState;
  private readonly events: RunEvent[] = [];
  private readonly drops: DropLog;
  /** connections by which the open step's keys went before its update was made; a worker may have come back by another */
  private keysSentTo: ReadonlySet<Session> = new Set();
  private collection: StepCollection;
  private evaluation: OpenEvaluation | null = null;
  private lastAccuracy: number | null = null;
  private stepOpenedAt = 0;
  private turnedAway = 0;
  /** what everybody is told who says hello from now on */
  private farewellReason: string | null = null;

  constructor(
    private readonly parts: ServerParts,
    private readonly ports: ServerPorts,
  ) {
    this.state = parts.initial;
    this.collection = this.newCollection(parts.initial.step);
    this.drops = new DropLog(ports.now, (peer, reason) => {
      ports.observer.dropped(peer, reason);
    });
  }

  /** updates made so far */
  get step(): number {
    return this.state.step;
  }

  get runState(): RunState {
    return this.state;
  }

  // --- What happens outside.

  /** Every heartbeat interval. */
  tick(): void {
    const { membership } = this.parts;
    this.turnedAway = 0;
    this.drops.tick();
    for (const session of membership.silent(this.ports.now(), this.state.plan.deadAfterMs)) {
      this.drop(session, "silent before it was ready");
    }
    this.ping();
    this.dispatch({ kind: "tick" });
  }

  /** Speaks to everybody, so that whoever is gone shows. */
  ping(): void {
    // An array: whoever turns out to be gone leaves the sessions meanwhile.
    for (const session of [...this.parts.membership.sessions()]) this.tell(session, { body: "ping", ping: {} });
  }

  /** Somebody did not get through the door of the socket. */
  refused(reason: string): void {
    this.drops.count("stranger", reason);
  }

  stop(): void {
    this.dispatch({ kind: "stop-requested" });
  }

  received(peer: string, message: WorkerMessage, frames: readonly Uint8Array[]): void {
    try {
      this.hear(peer, message, frames);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.misread(peer, error);
    }
  }

  /** A message that could not be read, or should not have been sent. */
  misread(peer: string, error: WireError): void {
    const session = this.parts.membership.session(peer);
    this.drops.count(session?.id ?? peer, error.message);
    if (session === undefined || ++session.strikes < MAX_STRIKES) return;
    this.drop(session, `cut off after ${String(MAX_STRIKES)} messages that had to be dropped`);
  }

  /** A message could not be sent: the connection is closed, or too much waits in it. */
  unreachable(peer: string): void {
    const session = this.parts.membership.session(peer);
    if (session !== undefined) this.drop(session, "its connection is closed or stalled");
  }

  reported(report: AggregationReport): void {
    switch (report.kind) {
      case "held":
        this.dispatch({ kind: "gradients-held", step: report.step, ranks: report.ranks });
        return;
      case "applied":
        this.dispatch({ kind: "applied", step: report.step });
        return;
      case "lost": {
        const session = this.parts.membership.sessionOf(report.worker);
        if (session?.ticket === report.ticket) this.drop(session, report.reason);
        return;
      }
      case "dropped":
        this.drops.count("data plane", report.reason);
        return;
      case "captured":
        // Whoever asked for it has it.
        return;
    }
  }

  classified(step: number, scores: Scores): void {
    this.evaluation = null;
    this.lastAccuracy = scores.knn;
    this.ports.observer.evaluated(step, scores);
    this.dispatch({ kind: "classified", step });
  }

  checkpointWritten(step: number, directory: string, histograms: readonly StateHistogram[]): void {
    this.ports.observer.checkpointed(step, directory, histograms);
    this.dispatch({ kind: "checkpoint-written", step });
  }

  checkpointFailed(step: number, reason: string): void {
    this.dispatch({ kind: "checkpoint-failed", step, reason });
  }

  /** Tells every worker that it may go, also those who come later. */
  farewell(reason: string): void {
    this.farewellReason = reason;
    for (const session of [...this.parts.membership.sessions()]) {
      this.tell(session, { body: "finished", finished: { reason } });
    }
  }

  /** Ends every connection: another server takes the run up. Workers may make another. */
  dropAll(reason: string): void {
    for (const session of [...this.parts.membership.sessions()]) {
      this.tell(session, { body: "dropped", dropped: { reason } });
      this.parts.membership.lose(session, this.ports.now());
    }
  }

  /** Whether a worker that has not left in order is without a connection, and may come back. */
  get misses(): boolean {
    return this.parts.membership.misses(this.ports.now(), MAY_COME_BACK_MS);
  }

  // --- Messages in.

  private hear(peer: string, message: WorkerMessage, frames: readonly Uint8Array[]): void {
    if (message.body === "hello") {
      this.greet(peer, message.hello, message.number);
      return;
    }
    const session = this.parts.membership.session(peer);
    if (session === undefined) {
      this.turnAway(peer);
      throw new WireError(`${String(message.body)} from a peer that has not said hello`);
    }
    switch (session.incoming.arrived(message.number)) {
      case "repeated":
        throw new WireError(`message ${String(message.number)} of ${session.id} has been here before`);
      case "gap":
        this.drop(session, "a message of it is missing");
        return;
      case "due":
    }
    const now = this.ports.now();
    const silence = now - session.heardAt;
    if (message.body === "ready") {
      this.makeReady(session, message.ready);
      return;
    }
    if (!session.isAdmitted) {
      session.heardAt = now;
      if (message.body === "heartbeat") return;
      if (message.body === "goodbye" || message.body === "drain") {
        this.forget(session);
        return;
      }
      throw new WireError(`${String(message.body)} from ${session.id}, which is not admitted`);
    }
    // Often enough; a message each would cost more than it tells.
    if (silence > this.state.plan.heartbeatMs / 4) {
      session.heardAt = now;
      this.dispatch({ kind: "heard", worker: session.id });
      this.ports.observer.happened({ kind: "heard", worker: session.id });
    }
    switch (message.body) {
      case "heartbeat":
        return;
      case "rankResult":
        this.takeResult(session, message.rankResult, frames);
        return;
      case "rankEmbeddings":
        this.takeEmbeddings(session, message.rankEmbeddings, frames);
        return;
      case "features":
        this.takeFeatures(session, message.features, frames);
        return;
      case "corruptSample":
        this.ports.countCorrupt(message.corruptSample.name ?? "");
        return;
      case "drain":
        this.dispatch({ kind: "worker-drains", worker: session.id, keeps: this.kept(message.drain) });
        return;
      case "goodbye":
        this.forget(session);
        this.dispatch({ kind: "worker-left", worker: session.id, reason: message.goodbye.reason ?? "left" });
        return;
      case undefined:
        return;
    }
  }

  private greet(peer: string, hello: Hello, number: number | null | undefined): void {
    const { membership } = this.parts;
    if (number !== 1 || membership.session(peer) !== undefined) throw new WireError("hello comes first, and once");
    const refused = membership.refusalOf(hello);
    if (refused !== null) {
      this.refuse(peer, refused, 1);
      return;
    }
    const before = membership.sessionOfInstance(hello.instance ?? "");
    if (before !== undefined) this.drop(before, "it has connected anew");
    const { session, answer } = membership.welcome(peer, hello, this.ports.now());
    if (this.farewellReason !== null) {
      this.tell(session, { body: "finished", finished: { reason: this.farewellReason } });
      return;
    }
    this.ports.command({ kind: "expect", worker: session.id, ticket: session.ticket });
    this.tell(session, answer);
  }

  private makeReady(session: Session, ready: Ready): void {
    session.heardAt = this.ports.now();
    if (session.isAdmitted) throw new WireError(`${session.id} is ready twice`);
    const answer = this.parts.membership.ready(session, ready);
    if ("refused" in answer) {
      this.ports.command({ kind: "forget", worker: session.id });
      this.refuse(session.peer, answer, session.outgoing.next());
      return;
    }
    if (answer.differs !== null) this.ports.observer.notReproducible(session.id, answer.differs);
    const rounds = this.parts.membership.rounds.length;
    const devices = Math.min(MOST_DEVICES, Math.max(1, ready.devices ?? 1));
    this.dispatch({ kind: "worker-joined", worker: session.id, rounds, devices });
  }

  private takeResult({ id }: Session, result: RankResult, frames: readonly Uint8Array[]): void {
    const step = result.step ?? 0;
    const rank = result.rank ?? 0;
    // Of a step that is over, or of a coordinator's before this one: everything of it is known already.
    if (step !== this.collection.step) return;
    const metrics = metricsOf(result);
    this.collection.accept(rank, metrics, frames);
    this.ports.observer.happened({ kind: "rank-done", worker: id, step, rank, metrics });
    const where = result.nonFinite ?? "";
    this.dispatch({ kind: "rank-result", worker: id, step, rank, nonFinite: where === "" ? null : where });
  }

  private takeEmbeddings({ id }: Session, shown: RankEmbeddings, frames: readonly Uint8Array[]): void {
    const step = shown.step ?? 0;
    const rank = shown.rank ?? 0;
    const round = shown.round ?? 0;
    const { phase } = this.state;
    // Once everybody has the block it is not written again.
    if (step !== this.collection.step || phase.kind !== "exchange" || round !== phase.round) return;
    this.collection.acceptEmbeddings(rank, frames);
    this.dispatch({ kind: "embeddings", worker: id, step, rank, round });
  }

  private takeFeatures({ id }: Session, features: Features, frames: readonly Uint8Array[]): void {
    const step = features.step ?? 0;
    const chunk = features.chunk ?? 0;
    if (this.evaluation?.step !== step || this.state.phase.kind !== "evaluating") return;
    this.evaluation.accept(chunk, frames);
    this.dispatch({ kind: "features", worker: id, step, chunk });
  }

  /** Units of the open phase that a worker that drains finishes first. */
  private kept({ step, ranks, embeddings, chunks }: Drain): readonly number[] {
    if ((step ?? 0) !== this.state.step) return [];
    const { kind } = this.state.phase;
    const keeps = kind === "evaluating" ? chunks : kind === "exchange" ? embeddings : ranks;
    return keeps ?? [];
  }

  // --- Connections end.

  private refuse(peer: string, { refused, reason }: Refusal, number: number): void {
    this.drops.count(peer, reason);
    this.ports.send(peer, { ...refused, number }, []);
  }

  /** Whoever is not known is told so, that it may connect anew; not more often than it costs little. */
  private turnAway(peer: string): void {
    if (++this.turnedAway > MOST_TURNED_AWAY) return;
    this.ports.send(peer, { body: "dropped", dropped: { reason: "the coordinator does not know you" }, number: 1 }, []);
  }

  /** Ends a connection, telling the worker, which may make another. */
  private drop(session: Session, reason: string): void {
    this.tell(session, { body: "dropped", dropped: { reason } });
    // First of all: what was just told may come back as unreachable.
    this.lose(session);
    if (session.isAdmitted) this.dispatch({ kind: "worker-left", worker: session.id, reason });
  }

  /** Its process may make another connection. */
  private lose(session: Session): void {
    this.parts.membership.lose(session, this.ports.now());
    this.ports.command({ kind: "forget", worker: session.id });
  }

  private forget(session: Session): void {
    this.parts.membership.forget(session);
    this.ports.command({ kind: "forget", worker: session.id });
  }

  // --- The state machine.

  /** Events are taken one after another, and an event's effects are carried out before the next event is. */
  private dispatch(event: RunEvent): void {
    this.events.push(event);
    if (this.events.length > 1) return;
    for (let next = this.events[0]; next !== undefined; next = this.events[0]) {
      const { state, effects } = transition(this.state, next, this.ports.now());
      this.state = state;
      try {
        for (const effect of effects) this.carryOut(effect);
      } finally {
        this.events.shift();
      }
    }
  }

  private carryOut(effect: Effect): void {
    const { ports } = this;
    const { command, observer } = ports;
    switch (effect.kind) {
      case "admit":
        this.admit(effect.worker);
        return;
      case "forget": {
        const session = this.parts.membership.sessionOf(effect.worker);
        if (session !== undefined) {
          this.tell(session, { body: "dropped", dropped: { reason: effect.reason } });
          this.lose(session);
        }
        observer.workerLeft(effect.worker, effect.reason, this.state.workers.size);
        return;
      }
      case "dismiss":
        this.dismiss(effect.worker);
        return;
      case "straggler":
        observer.straggler(effect.worker, effect.slow, effect.paceMs, effect.medianMs);
        return;
      case "open-step":
        this.stepOpenedAt = ports.now();
        observer.happened({ kind: "step-opened", step: effect.step });
        this.collection = this.newCollection(effect.step);
        return;
      case "assign":
        this.tellWorker(effect.worker, {
          body: "assignment",
          assignment: { step: effect.step, ranks: [...effect.ranks], round: effect.round },
        });
        return;
      case "show-embeddings":
        this.collection.endRound();
        this.sendEmbeddings(this.admitted(), effect.round);
        return;
      case "apply": {
        const { step, skip } = effect;
        observer.happened({ kind: "update-begun", step });
        command({ kind: "apply", step, rates: skip ? null : this.parts.schedule.rates(step) });
        // The keys travel while the update is made; a worker that joins meanwhile gets the queue before them.
        this.keysSentTo = new Set(this.admitted());
        this.sendKeys(step + 1, skip, this.keysSentTo);
        return;
      }
      case "publish": {
        const { step, skipped } = effect;
        observer.happened({ kind: "update-done", step: step - 1 });
        if (!skipped) this.parts.queue.append(this.collection.keys);
        const late = this.admitted().filter((session) => !this.keysSentTo.has(session));
        this.sendKeys(step, skipped, late);
        if (skipped) observer.stepSkipped(step);
        else this.reportStep(step);
        return;
      }
      case "open-evaluation":
        this.evaluation = ports.openEvaluation(effect.step);
        return;
      case "request-features": {
        const chunk = this.evaluation?.chunks[effect.chunk];
        if (chunk === undefined) throw new Error(`chunk ${String(effect.chunk)} does not exist`);
        const { split, start, count } = chunk;
        const featureRequest = { step: effect.step, chunk: effect.chunk, testSplit: split === "test", start, count };
        this.tellWorker(effect.worker, { body: "featureRequest", featureRequest });
        return;
      }
      case "classify":
        if (this.evaluation !== null) ports.classify(this.evaluation);
        return;
      case "checkpoint":
        ports.checkpoint(effect.step, this.lastAccuracy);
        return;
      case "end":
        ports.ended(effect);
        return;
      case "explain":
        observer.explained(effect.reason);
        return;
    }
  }

  private admit(worker: WorkerId): void {
    const session = this.parts.membership.sessionOf(worker);
    if (session === undefined) return;
    const { holding } = session;
    const weights =
      holding === null ? null : { version: holding.weightsVersion ?? 0, sha256: holding.weightsSha256 ?? [] };
    this.ports.command({ kind: "admit", worker, holding: weights });
    this.sendQueue(session, holding);
    const { kind } = this.state.phase;
    if (kind === "exchange" || kind === "step")
      for (const round of this.collection.blocks.keys()) this.sendEmbeddings([session], round);
    const devices = this.state.workers.get(worker)?.devices ?? 1;
    const { host, pid, device } = session;
    this.ports.observer.workerJoined({ worker, devices, device, host, pid }, this.state.workers.size);
  }

  /** A worker that has drained may go. */
  private dismiss(worker: WorkerId): void {
    const session = this.parts.membership.sessionOf(worker);
    if (session === undefined) return;
    this.tell(session, { body: "finished", finished: { reason: "drained" } });
    this.forget(session);
    this.ports.observer.workerLeft(worker, "drained", this.state.workers.size);
  }

  // --- Messages out.

  private tell(session: Session, message: CoordinatorMessage, frames: readonly Uint8Array[] = []): void {
    this.ports.send(session.peer, { ...message, number: session.outgoing.next() }, frames);
  }

  private tellWorker(worker: WorkerId, message: CoordinatorMessage, frames: readonly Uint8Array[] = []): void {
    const session = this.parts.membership.sessionOf(worker);
    if (session !== undefined) this.tell(session, message, frames);
  }

  /** @param version steps that are over with these */
  private sendKeys(version: number, skipped: boolean, sessions: Iterable<Session>): void {
    const block: CoordinatorMessage = { body: "queueBlock", queueBlock: { version, skipped } };
    const frames = skipped ? [] : toFrames(this.collection.keys);
    for (const session of sessions) this.tell(session, block, frames);
  }

  private sendEmbeddings(sessions: Iterable<Session>, round: number): void {
    const { step, blocks } = this.collection;
    const block: CoordinatorMessage = { body: "embeddingBlock", embeddingBlock: { step, round } };
    const frames = toFrames(blocks[round]);
    for (const session of sessions) this.tell(session, block, frames);
  }

  private admitted(): Session[] {
    return [...this.state.workers.keys()].flatMap((worker) => this.parts.membership.sessionOf(worker) ?? []);
  }

  private sendQueue(session: Session, holding: Holding | null): void {
    const { keys, position } = this.parts.queue;
    const version = this.state.step;
    const held = holding?.queueVersion === version && holding.queueSha256 === this.ports.digest(keys);
    // A copy: the ring is written again while ZeroMQ may still be sending it.
    const frames = held ? [] : toFrames(keys.slice());
    this.tell(session, { body: "queueSnapshot", queueSnapshot: { version, position, held } }, frames);
  }

  private newCollection(step: number): StepCollection {
    const { initial, keysPerRank, membership } = this.parts;
    return new StepCollection(step, initial.plan.worldSize, keysPerRank, membership.rounds);
  }

  private reportStep(step: number): void {
    const { stepsPerEpoch, totalSteps, globalBatch, rates } = this.parts.schedule;
    const stepMs = this.ports.now() - this.stepOpenedAt;
    this.ports.observer.stepDone({
      ...this.collection.means(),
      step,
      totalSteps,
      epoch: Math.floor((step - 1) / stepsPerEpoch),
      learningRate: rates(step - 1).learningRate,
      stepMs,
      imagesPerSecond: (globalBatch / stepMs) * 1000,
      workers: this.state.workers.size,
    });
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
    sentBytes: result.sentBytes ?? 0,
    receivedBytes: result.receivedBytes ?? 0,
  };
}
