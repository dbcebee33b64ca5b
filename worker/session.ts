/**
 * One worker's part in a run: handshake, updates in, ranks executed, results out, and a new connection whenever one is lost.
 * No socket, clock, thread or random source in here: `SessionPorts` are all it touches, so a simulation can drive it.
 */
import { conflictingKeys } from "../src/config/compare.js";
import { checkConfig } from "../src/config/resolve.js";
import type { RunConfig } from "../src/config/schema.js";
import type { BatchUse } from "../src/data/loader.js";
import { retryAfter } from "../src/protocol/backoff.js";
import { UserError } from "../src/protocol/errors.js";
import { toFrames } from "../src/protocol/frames.js";
import type { TreeNode } from "../src/optim/index.js";
import { Numbering } from "../src/protocol/numbering.js";
import {
  CHUNK_SAMPLES,
  type AggregatorAddress,
  type AggregatorMessage,
  type Assignment,
  type CoordinatorMessage,
  type EmbeddingBlock,
  type FeatureRequest,
  type Holding,
  type QueueBlock,
  type QueueSnapshot,
  type Weights,
  type Welcome,
  type WorkerDataMessage,
  type WorkerMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { isHost, LAST_PORT } from "../src/transport/endpoint.js";
import type { FeatureSlice, HandedOut, Prepared, RankReport, SessionOptions, SessionPorts } from "./session-ports.js";
import type { Arrived } from "./sharded-weights.js";
import { WorkInHand, type Piece, type Unit } from "./work-in-hand.js";

/** How long a coordinator may take to answer hello before the worker connects anew, in ms. */
const GREETING_MS = 5000;
/** How often the absence of a coordinator is told, in ms. */
const COMPLAIN_EVERY_MS = 10_000;

/** The connection to one aggregator, as the present link has it. */
interface DataConnection {
  readonly in: Numbering;
  readonly out: Numbering;
  heardAt: number;
  /** what is here of its shard and not acknowledged; null: none */
  arrived: Arrived | null;
  /** whether the engine has other values of the shard */
  isNew: boolean;
}

/** How far the handshake of the present link is. */
type Stage = "down" | "greeting" | "preparing" | "proving" | "ready";

export class WorkerSession {
  private link = 0;
  private stage: Stage = "down";
  private control = { in: new Numbering(), out: new Numbering() };
  /** in the order of the shards */
  private data: readonly DataConnection[] = [];
  private retryAt = 0;
  /** attempts since the coordinator was last heard of */
  private failures = 0;
  private linkedAt = 0;
  private heardAt: number;
  private beatAt = 0;
  private complainedAt: number;
  /** why no connection has come about yet, as far as is known */
  private obstacle = "";

  private welcomed: {
    readonly runId: string;
    readonly workerId: string;
    readonly ticket: string;
    readonly aggregators: readonly AggregatorAddress[];
    readonly overlaps: boolean;
  } | null = null;
  private config: RunConfig | null = null;
  private found: Prepared | null = null;

  /** steps that weights and queue include, as far as this link has confirmed them; −1: not yet */
  private weightsVersion = -1;
  private queueVersion = -1;
  /** version of the queue that the engine has, whichever link it came by */
  private queueHeld = -1;
  /** rounds of a step of which this link has brought what was shown; −1: none */
  private shown = { step: -1, rounds: 0 };
  private isLoading = false;

  private readonly work = new WorkInHand();
  /** shards of the rank in hand whose gradients have been sent */
  private readonly sentEarly = new Set<number>();
  /** since when the devices have had nothing to do; null: it has, or has not had anything yet */
  private idleSince: number | null = null;
  /** how long it has had nothing to do since the last result, in ms */
  private idleMs = 0;
  /** payload since the last result */
  private traffic = { sentBytes: 0, receivedBytes: 0 };
  /** when a worker that was asked to leave goes whatever is left to do; null: it was not asked */
  private leavesAt: number | null = null;
  private isOver = false;

  constructor(
    private readonly options: SessionOptions,
    private readonly ports: SessionPorts,
  ) {
    this.heardAt = ports.now();
    this.complainedAt = ports.now();
  }

  start(): void {
    this.ports.log(`looking for the coordinator at ${this.options.endpoint}`);
    this.connect();
  }

  // --- Time.

  /** Several times in a heartbeat interval. */
  tick(): void {
    if (this.isOver) return;
    const now = this.ports.now();
    if (this.leavesAt !== null && now >= this.leavesAt) {
      this.leave("the time to drain is over");
      return;
    }
    if (this.stage === "down" || this.stage === "greeting") {
      this.lookForCoordinator(now);
      return;
    }
    const { heartbeatMs, deadAfterMs } = this.terms().membership;
    if (now - this.heardAt > deadAfterMs) {
      this.lose(`the coordinator has been silent for ${String(Math.round(now - this.heardAt))} ms`);
      return;
    }
    const silent = this.stage === "ready" ? this.data.findIndex(({ heardAt }) => now - heardAt > deadAfterMs) : -1;
    if (silent !== -1) {
      const { host, port } = this.welcomed?.aggregators[silent] ?? {};
      const where = host ? ` at ${host}:${String(port)}` : "";
      this.lose(`the aggregator${where} has been silent for ${String(Math.round(now - this.data[silent].heardAt))} ms`);
      return;
    }
    if (now - this.beatAt < heartbeatMs) return;
    this.beatAt = now;
    this.say({ body: "heartbeat", heartbeat: {} });
    for (const aggregator of this.data.keys()) this.tell(aggregator, { body: "alive", alive: {} });
  }

  private lookForCoordinator(now: number): void {
    const away = now - this.heardAt;
    const { endpoint, patienceMs } = this.options;
    if (away > patienceMs) {
      const seconds = String(Math.round(away / 1000));
      const message = `no coordinator has answered at ${endpoint} for ${seconds} s${this.obstacle}: start it, or check the address and --keys`;
      this.end(new UserError("NO_COORDINATOR", message));
      return;
    }
    if (now - this.complainedAt >= COMPLAIN_EVERY_MS) {
      this.complainedAt = now;
      this.ports.log(`no coordinator answers at ${endpoint} yet${this.obstacle}`);
    }
    if (this.stage === "greeting" && now - this.linkedAt > GREETING_MS) this.lose("no answer to hello");
    else if (this.stage === "down" && now >= this.retryAt) this.connect();
  }

  /** What the run's config says. */
  private terms(): Pick<RunConfig, "membership" | "parallel"> {
    if (this.config === null) throw new Error("there is no config before the welcome");
    return this.config;
  }

  /** What is not there yet for the worker to take part; null: nothing, it does. */
  get waitsFor(): string | null {
    switch (this.stage) {
      case "down":
      case "greeting":
        return `looking for the coordinator at ${this.options.endpoint}`;
      case "preparing":
        return "starting the engine and listing the data";
      case "proving":
        return "connecting to the aggregators";
      case "ready":
        return this.queueVersion < 0 ? "waiting to be admitted" : null;
    }
  }

  // --- Links.

  private connect(): void {
    this.link++;
    this.stage = "greeting";
    this.linkedAt = this.ports.now();
    this.control = { in: new Numbering(), out: new Numbering() };
    this.data = [];
    this.ports.connect(this.link);
    this.say({ body: "hello", hello: { ...this.options.hello, attempt: this.link } });
  }

  /** The link is of no more use: everything that it has brought about is void, and another one is made in a while. */
  private lose(reason: string): void {
    if (this.stage === "down" || this.isOver) return;
    if (this.stage === "greeting") this.obstacle = ` (${reason})`;
    else this.ports.log(`connection lost: ${reason}`);
    this.ports.disconnect();
    if (this.leavesAt !== null) {
      this.end(null, true);
      return;
    }
    this.stage = "down";
    this.weightsVersion = -1;
    this.queueVersion = -1;
    this.shown = { step: -1, rounds: 0 };
    this.isLoading = false;
    this.work.clear();
    this.retryAt = this.ports.now() + retryAfter(this.failures++, this.ports.random());
  }

  linkLost(link: number, reason: string): void {
    if (link === this.link) this.lose(reason);
  }

  /** Something that could not be read came by a link. */
  misread(link: number, error: WireError): void {
    if (link === this.link) this.lose(error.message);
  }

  private say(message: WorkerMessage, frames: readonly Uint8Array[] = []): void {
    this.traffic.sentBytes += bytesOf(frames);
    this.ports.say({ ...message, number: this.control.out.next() }, frames);
  }

  private tell(aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[] = []): void {
    this.traffic.sentBytes += bytesOf(frames);
    this.ports.tell(aggregator, { ...message, number: this.data[aggregator].out.next() }, frames);
  }

  /** @returns whether the message is to be read */
  private isDue(link: number, incoming: Numbering, number: number | null | undefined): boolean {
    if (link !== this.link || this.stage === "down" || this.isOver) return false;
    const arrival = incoming.arrived(number);
    if (arrival === "gap") this.lose("a message of the coordinator is missing");
    return arrival === "due";
  }

  private guarded(hear: () => void): void {
    try {
      hear();
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.lose(error.message);
    }
  }

  // --- Leaving.

  /** Finishes the rank in hand, hands the others back, and ends; after `graceMs` it ends whatever is left to do. */
  drain(graceMs: number): void {
    if (this.leavesAt !== null || this.isOver) return;
    this.leavesAt = this.ports.now() + graceMs;
    if (this.stage !== "ready") {
      this.leave("asked to stop");
      return;
    }
    const { ranks, embeddings, chunks } = this.work.handBack(this.link);
    const step = chunks.length > 0 ? this.weightsVersion : this.work.step;
    this.say({ body: "drain", drain: { step: Math.max(0, step), ranks, embeddings, chunks } });
  }

  private leave(reason: string): void {
    if (this.stage !== "down") this.say({ body: "goodbye", goodbye: { reason } });
    this.end(null, true);
  }

  private end(error: UserError | null, isGone = false): void {
    if (this.isOver) return;
    this.isOver = true;
    this.ports.ended(error, isGone);
  }

  // --- Handshake.

  heard(link: number, message: CoordinatorMessage, frames: readonly Uint8Array[]): void {
    if (!this.isDue(link, this.control.in, message.number)) return;
    this.heardAt = this.ports.now();
    this.traffic.receivedBytes += bytesOf(frames);
    this.guarded(() => {
      this.hear(message, frames);
    });
  }

  private hear(message: CoordinatorMessage, frames: readonly Uint8Array[]): void {
    switch (message.body) {
      case "welcome":
        this.welcome(message.welcome);
        return;
      case "refused": {
        const { code, reason } = message.refused;
        this.end(new UserError(code ?? "REFUSED", `the coordinator refused: ${reason ?? ""}`));
        return;
      }
      case "dropped":
        this.lose(message.dropped.reason ?? "the coordinator has dropped it");
        return;
      case "finished":
        this.ports.log(message.finished.reason ?? "finished");
        // One that was asked to leave is let go so too.
        this.end(null, this.leavesAt !== null);
        return;
      case "queueSnapshot":
        this.expectReady();
        this.takeQueue(message.queueSnapshot, frames);
        return;
      case "queueBlock":
        this.expectReady();
        this.takeBlock(message.queueBlock, frames);
        return;
      case "assignment":
        this.expectReady();
        this.takeAssignment(message.assignment);
        return;
      case "embeddingBlock":
        this.expectReady();
        this.takeEmbeddings(message.embeddingBlock, frames);
        return;
      case "featureRequest":
        this.expectReady();
        this.takeRequest(message.featureRequest);
        return;
      case "ping":
      case undefined:
        return;
    }
  }

  private expectReady(): void {
    if (this.stage !== "ready") throw new WireError("work before the handshake was over");
  }

  private welcome({ runId, workerId, configJson, aggregators, ticket, samplesPort, overlaps }: Welcome): void {
    if (this.stage !== "greeting") throw new WireError("a welcome comes first, and once");
    const before = this.config;
    const config = configOf(configJson ?? "");
    if (this.welcomed !== null && before !== null) {
      const isOther = config !== before && conflictingKeys(before, config).length > 0;
      if (this.welcomed.runId !== runId || isOther) {
        const message = `the coordinator at ${this.options.endpoint} now serves another run (${runId ?? ""}): start the worker anew`;
        this.end(new UserError("RUN_CHANGED", message));
        return;
      }
    }
    this.config = config;
    this.welcomed = {
      ...{ runId: runId ?? "", workerId: workerId ?? "", ticket: ticket ?? "" },
      aggregators: soundAddresses(aggregators ?? []),
      overlaps: overlaps === true,
    };
    this.stage = "preparing";
    this.ports.log(`welcome to ${this.welcomed.runId} as ${this.welcomed.workerId}`);
    const port = samplesPort ?? 0;
    if (port > LAST_PORT) throw new WireError(`a port of ${String(port)}`);
    const origin = { runId: this.welcomed.runId, port: port === 0 ? null : port };
    if (before === null) {
      this.ports.prepare(config, origin);
      return;
    }
    this.ports.samplesAt(origin);
    if (this.found !== null) this.openData();
  }

  prepared(found: Prepared): void {
    // The engine may be up only after the run's end: a connection made now would keep the process.
    if (this.isOver) return;
    this.found = found;
    this.work.setDevices(found.devices);
    if (this.stage === "preparing") this.openData();
  }

  private openData(): void {
    if (this.welcomed === null) throw new Error("data connections come after the welcome");
    const { runId, workerId, ticket, aggregators } = this.welcomed;
    const { tensors = 0, takesBfloat16 = false } = this.found ?? {};
    if (aggregators.length > tensors) {
      this.lose(`${String(aggregators.length)} aggregators of ${String(tensors)} tensors`);
      return;
    }
    this.stage = "proving";
    this.data = aggregators.map(() => newConnection());
    const [number] = this.data.map(({ out }) => out.next());
    this.guarded(() => {
      this.ports.openData(this.link, aggregators, {
        body: "open",
        open: { runId, workerId, ticket, bfloat16: takesBfloat16 },
        number,
      });
      this.ports.prove(this.link, this.queueHeld);
    });
  }

  /** @param holding null: nothing is held */
  proved(link: number, holding: Holding | null): void {
    if (link !== this.link || this.stage !== "proving" || this.found === null) return;
    this.stage = "ready";
    for (const connection of this.data) connection.heardAt = this.ports.now();
    const { manifestHash, engineFingerprint, device, devices, rounds } = this.found;
    const ready = { manifestHash, engineFingerprint, device, devices, holding, rounds: [...rounds] };
    this.say({ body: "ready", ready });
  }

  // --- Updates in.

  private takeQueue({ version, position, held }: QueueSnapshot, frames: readonly Uint8Array[]): void {
    if (held === true && this.queueHeld !== (version ?? 0))
      throw new WireError("a queue that is not held was confirmed");
    if ((position ?? 0) >= (this.config?.moco.queueSize ?? 0))
      throw new WireError("a queue with a row that it has not");
    if (held !== true) this.ports.setQueue(position ?? 0, frames);
    this.queueVersion = this.queueHeld = version ?? 0;
    // From now on the worker takes part.
    this.failures = 0;
    this.pump();
  }

  private takeBlock({ version, skipped }: QueueBlock, frames: readonly Uint8Array[]): void {
    if ((version ?? 0) !== this.queueVersion + 1) throw new WireError("a block of keys is missing");
    if (skipped !== true) this.ports.appendKeys(frames);
    this.queueVersion = this.queueHeld = version ?? 0;
    this.pump();
  }

  /** @param aggregator number of its shard */
  heardData(link: number, aggregator: number, message: AggregatorMessage, frames: readonly Uint8Array[]): void {
    if (link !== this.link || this.stage === "down") return;
    const connection = this.data[aggregator];
    if (!this.isDue(link, connection.in, message.number)) return;
    connection.heardAt = this.ports.now();
    this.traffic.receivedBytes += bytesOf(frames);
    this.guarded(() => {
      if (message.body === "weights") this.takeWeights(aggregator, message.weights, frames);
      else if (message.body === "memory") this.ports.takeMemory(aggregator, message.memory);
    });
  }

  private takeWeights(aggregator: number, weights: Weights, frames: readonly Uint8Array[]): void {
    this.expectReady();
    if (weights.runId !== this.welcomed?.runId) throw new WireError(`weights of run ${String(weights.runId)}`);
    const connection = this.data[aggregator];
    if (connection.arrived !== null) throw new WireError("weights came before those before were acknowledged");
    const arrived = this.ports.takeWeights(aggregator, weights, frames);
    if (arrived === null) return;
    connection.arrived = arrived;
    if (weights.unchanged !== true) connection.isNew = true;
    this.joinShards();
  }

  /** The engine gets weights of one version. Aggregators that had sent an earlier one than others did send the newest then. */
  private joinShards(): void {
    const newest = Math.max(...this.data.map(({ arrived }) => arrived?.version ?? -1));
    for (const [aggregator, { arrived }] of this.data.entries()) {
      if (arrived !== null && arrived.version < newest) this.acknowledge(aggregator);
    }
    if (this.data.some(({ arrived }) => arrived?.version !== newest)) return;
    this.weightsVersion = newest;
    if (this.data.some(({ isNew }) => isNew)) {
      for (const connection of this.data) connection.isNew = false;
      this.isLoading = true;
      this.ports.loadWeights(this.link);
    } else this.acknowledgeAll();
    this.pump();
  }

  /** The engine has the weights, so the next may come. */
  weightsLoaded(link: number): void {
    if (link !== this.link || !this.isLoading) return;
    this.isLoading = false;
    this.acknowledgeAll();
  }

  private acknowledgeAll(): void {
    for (const aggregator of this.data.keys()) this.acknowledge(aggregator);
  }

  private acknowledge(aggregator: number): void {
    const connection = this.data[aggregator];
    const { version, bandwidth } = connection.arrived ?? { version: -1, bandwidth: null };
    const received = { runId: this.welcomed?.runId ?? "", version, bandwidth: bandwidth ?? 0 };
    connection.arrived = null;
    this.tell(aggregator, { body: "received", received });
  }

  // --- Work.

  private takeAssignment({ step, ranks, round: asked }: Assignment): void {
    const { worldSize } = this.terms().parallel;
    const given = ranks ?? [];
    const round = asked ?? 0;
    const isShow = round < this.rounds;
    if (round > this.rounds) throw new WireError(`round ${String(round)} of ${String(this.rounds)} was assigned`);
    if (round > this.roundsOver(step ?? 0))
      throw new WireError("a round was assigned before what ranks had shown in those before had come");
    if (given.some((rank) => rank >= worldSize)) throw new WireError("a rank that does not exist was assigned");
    if ((step ?? 0) < this.work.step) throw new WireError("ranks of a step that is over were assigned");
    if (this.leavesAt !== null) return;
    if (isShow) {
      this.work.assignEmbeddings(step ?? 0, round, given);
      this.prefetch(this.work.embeddingsDue, "embeddings");
      // Their gradients are likely to be this worker's too.
      this.prefetch(this.work.embeddingsDue, "gradients");
    } else {
      this.work.assign(step ?? 0, given);
      this.prefetch(this.work.due, "gradients");
    }
    this.pump();
  }

  /** @param ranks of each device */
  private prefetch(ranks: readonly (readonly number[])[], use: BatchUse): void {
    for (const [device, own] of ranks.entries()) this.ports.prefetch(device, this.work.step, own, use);
  }

  private takeEmbeddings({ step, round }: EmbeddingBlock, frames: readonly Uint8Array[]): void {
    const over = this.roundsOver(step ?? 0);
    if ((round ?? 0) !== over || over >= this.rounds) throw new WireError("what ranks have shown came out of turn");
    this.ports.setEmbeddings(step ?? 0, over, frames);
    this.shown = { step: step ?? 0, rounds: over + 1 };
    this.work.roundOver(step ?? 0, over);
  }

  /** Rounds of a step, after which its gradients come. */
  private get rounds(): number {
    return this.found?.rounds.length ?? 0;
  }

  /** Rounds of the step of which this link has brought what was shown. */
  private roundsOver(step: number): number {
    return this.shown.step === step ? this.shown.rounds : 0;
  }

  private takeRequest(request: FeatureRequest): void {
    const { split, start, count } = sliceOf(request);
    const samples = this.found?.splitLengths[split] ?? 0;
    if (count > CHUNK_SAMPLES || start + count > samples) throw new WireError("features of samples that do not exist");
    if (this.leavesAt === null) this.work.request(request);
    this.pump();
  }

  /** Whatever is due begins, one piece at a time on each device, as soon as weights and queue are those of the step. */
  private pump(): void {
    if (this.stage !== "ready") return;
    const { link, work, ports } = this;
    if (work.mustFlush) {
      work.beginFlush();
      ports.flush(link, work.step);
    }
    for (;;) {
      const piece = work.begin(link, this.weightsVersion, this.queueVersion);
      if (piece === null) return;
      if (this.idleSince !== null) this.idleMs += ports.now() - this.idleSince;
      this.idleSince = null;
      this.begin(piece);
    }
  }

  private begin(piece: Piece): void {
    const { link, work, ports } = this;
    const { device } = piece;
    if (piece.kind === "features") {
      ports.features(link, device, piece.request, sliceOf(piece.request));
      return;
    }
    if (piece.kind === "embeddings") {
      ports.embed(link, device, work.step, piece.rank, piece.round);
      return;
    }
    const { rank, isLast } = piece;
    this.sentEarly.clear();
    ports.run(link, device, work.step, rank, isLast, isLast && this.welcomed?.overlaps === true);
    // The same ranks are likely to come next: their images load while this rank computes, and after its own.
    const use = this.rounds > 0 ? "embeddings" : "gradients";
    if (isLast) ports.prefetch(device, work.step + 1, work.executedBy(device), use);
  }

  private ended(unit: Unit): void {
    this.work.ended(unit);
    this.idle();
  }

  private idle(): void {
    if (this.work.isIdle) this.idleSince = this.ports.now();
  }

  /** Whether what a device has done is of the present link and step. */
  private isOpen(link: number, step: number): boolean {
    return link === this.link && this.stage === "ready" && step === this.work.step;
  }

  /** @param embeddings null: the step is over, so nobody waits for them */
  embeddingsDone(link: number, step: number, rank: number, round: number, embeddings: Float32Array | null): void {
    this.ended({ link, kind: "embeddings", number: rank });
    if (embeddings !== null && this.isOpen(link, step)) {
      this.say({ body: "rankEmbeddings", rankEmbeddings: { step, rank, round } }, toFrames(embeddings));
    }
    this.pump();
  }

  /** A shard of the gradient of the rank in hand is whole, and nothing is to be added to it. @param parts as `HandedOut` has them */
  shardReady(
    link: number,
    step: number,
    rank: number,
    aggregator: number,
    parts: readonly Float32Array[] | null,
  ): void {
    if (!this.isOpen(link, step) || this.sentEarly.has(aggregator)) return;
    this.sentEarly.add(aggregator);
    this.sendGradient(step, { level: 0, index: rank }, aggregator, parts);
  }

  /** @param report null: the step is over, so nobody waits for it */
  rankDone(link: number, step: number, rank: number, flushed: boolean, report: RankReport | null): void {
    this.ended({ link, kind: "rank", number: rank });
    if (report !== null && this.isOpen(link, step)) {
      this.work.executedRank(rank, flushed);
      this.handOut(step, report.nodes);
      this.sendResult(step, rank, report);
    }
    this.pump();
  }

  flushed(link: number, step: number, nodes: readonly HandedOut[]): void {
    const counts = this.isOpen(link, step);
    this.work.flushEnded(counts);
    this.idle();
    if (counts) this.handOut(step, nodes);
    this.pump();
  }

  private handOut(step: number, nodes: readonly HandedOut[]): void {
    for (const { node, slices } of nodes) {
      for (const [aggregator, parts] of slices.entries())
        if (!this.sentEarly.has(aggregator)) this.sendGradient(step, node, aggregator, parts);
    }
  }

  private sendGradient(
    step: number,
    { level, index }: TreeNode,
    aggregator: number,
    parts: readonly Float32Array[] | null,
  ): void {
    const gradient = { runId: this.welcomed?.runId ?? "", step, level, index, shared: parts === null };
    this.tell(aggregator, { body: "gradient", gradient }, toFrames(...(parts ?? [])));
  }

  private sendResult(step: number, rank: number, report: RankReport): void {
    const { loss, accuracy, positiveSimilarity, negativeSimilarity, loadMs, forwardMs, backwardMs, graphMs } = report;
    const timings = { loadMs, forwardMs, backwardMs, exchangeMs: this.idleMs, graphMs };
    this.idleMs = 0;
    const nonFinite = report.nonFinite ?? "";
    const similarities = { positiveSimilarity, negativeSimilarity };
    const rankResult = { step, rank, loss, accuracy, ...similarities, timings, nonFinite, ...this.traffic };
    this.traffic = { sentBytes: 0, receivedBytes: 0 };
    this.say({ body: "rankResult", rankResult }, toFrames(report.keys));
  }

  featuresDone(link: number, request: FeatureRequest, features: Float32Array): void {
    const { step, chunk } = request;
    this.ended({ link, kind: "chunk", number: chunk ?? 0 });
    if (link === this.link && this.stage === "ready") {
      this.say({ body: "features", features: { step: step ?? 0, chunk: chunk ?? 0 } }, toFrames(features));
    }
    this.pump();
  }

  corruptSample(name: string): void {
    if (this.stage === "ready") this.say({ body: "corruptSample", corruptSample: { name } });
  }
}

function sliceOf({ testSplit, start, count }: FeatureRequest): FeatureSlice {
  return { split: testSplit === true ? "test" : "train", start: start ?? 0, count: count ?? 0 };
}

function bytesOf(frames: readonly Uint8Array[]): number {
  return frames.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function newConnection(): DataConnection {
  return { in: new Numbering(), out: new Numbering(), heardAt: 0, arrived: null, isNew: false };
}

/** @throws WireError where there are none, or one that nobody can connect to */
function soundAddresses(aggregators: readonly AggregatorAddress[]): readonly AggregatorAddress[] {
  if (aggregators.length === 0) throw new WireError("a welcome without aggregators");
  for (const { host, port } of aggregators) {
    const isSound = port != null && port >= 1 && port <= LAST_PORT && (!host || isHost(host));
    if (!isSound) throw new WireError(`a welcome with an aggregator at ${String(host)}, port ${String(port)}`);
  }
  return aggregators;
}

/** Whoever connects anew is mostly told what it knows. */
let lastRead: { readonly json: string; readonly config: RunConfig } | null = null;

/** @throws WireError where it is no JSON, or no whole config with values in their ranges */
function configOf(json: string): RunConfig {
  if (lastRead?.json === json) return lastRead.config;
  try {
    const config = checkConfig(JSON.parse(json));
    lastRead = { json, config };
    return config;
  } catch (cause) {
    throw new WireError(`a welcome without a config: ${(cause as Error).message}`, { cause });
  }
}
