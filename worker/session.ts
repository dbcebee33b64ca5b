/**
 * One worker's part in a run: handshake, updates in, ranks executed, results out, and a new connection whenever one is lost.
 * No socket, clock, thread or random source in here: `SessionPorts` are all it touches, so a simulation can drive it.
 */
import { conflictingKeys } from "../src/config/compare.js";
import type { RunConfig } from "../src/config/schema.js";
import { UserError } from "../src/protocol/errors.js";
import { toFrames } from "../src/protocol/frames.js";
import { Numbering } from "../src/protocol/numbering.js";
import type {
  AggregatorMessage,
  Assignment,
  CoordinatorMessage,
  FeatureRequest,
  Holding,
  QueueBlock,
  QueueSnapshot,
  Weights,
  Welcome,
  WorkerDataMessage,
  WorkerMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { TreeNode } from "../src/optim/index.js";

/** What engine and data set turn out to be. */
export interface Prepared {
  readonly manifestHash: string;
  readonly engineFingerprint: string;
  readonly device: string;
}

/** A partial sum that is handed out; null: it lies in the shared segment. */
export interface HandedOut {
  readonly node: TreeNode;
  readonly sum: Float32Array | null;
}

/** What one rank gives. */
export interface RankReport {
  readonly nodes: readonly HandedOut[];
  /** float32 `[B, D]` */
  readonly keys: Float32Array;
  readonly loss: number;
  readonly accuracy: number;
  readonly positiveSimilarity: number;
  readonly negativeSimilarity: number;
  readonly loadMs: number;
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly graphMs: number;
  /** "loss", or the first parameter whose gradient is not finite; null: all is finite */
  readonly nonFinite: string | null;
}

export interface FeatureSlice {
  readonly split: "train" | "test";
  readonly start: number;
  readonly count: number;
}

/** Everything outside that the session touches. Answers come by the session's methods, with the link they belong to. */
export interface SessionPorts {
  /** monotonic clock in ms */
  readonly now: () => number;
  /** in [0, 1) */
  readonly random: () => number;
  /** opens a control connection; what comes of it is told with this number. The one before is closed by now. */
  readonly connect: (link: number) => void;
  /** closes the connections of the link */
  readonly disconnect: () => void;
  readonly say: (message: WorkerMessage, frames: readonly Uint8Array[]) => void;
  /**
   * Opens the data connection, offering memory to share where there is some.
   * @param open the first message, to which the offer is added
   */
  readonly openData: (link: number, port: number, open: WorkerDataMessage & { readonly body: "open" }) => void;
  readonly tell: (message: WorkerDataMessage, frames: readonly Uint8Array[]) => void;
  /** starts engine and data set; answered by `prepared` */
  readonly prepare: (config: RunConfig) => void;
  /** digests of what is still held from an earlier link; answered by `proved` */
  readonly prove: (link: number, queueVersion: number) => void;
  /**
   * @returns the version, once its last shard has come; null before
   * @throws WireError where the message does not fit
   */
  readonly takeWeights: (header: Weights, frames: readonly Uint8Array[]) => number | null;
  /** gives the weights taken last to the engine, after everything that it was given before; answered by `weightsLoaded` */
  readonly loadWeights: (link: number) => void;
  /** @throws WireError where the frames do not fit */
  readonly setQueue: (position: number, frames: readonly Uint8Array[]) => void;
  /** @throws WireError where the frames do not fit */
  readonly appendKeys: (frames: readonly Uint8Array[]) => void;
  /** answered by `rankDone`; `flush` hands out the partial sums so far */
  readonly run: (link: number, step: number, rank: number, flush: boolean) => void;
  /** answered by `flushed` */
  readonly flush: (link: number, step: number) => void;
  readonly prefetch: (step: number, ranks: readonly number[]) => void;
  /** answered by `featuresDone` */
  readonly features: (link: number, request: FeatureRequest, slice: FeatureSlice) => void;
  readonly log: (message: string) => void;
  /** null: the run is over, or the worker was asked to leave */
  readonly ended: (error: UserError | null) => void;
}

export interface SessionOptions {
  /** how to call the coordinator's address in messages */
  readonly endpoint: string;
  readonly hello: {
    readonly protocolVersion: number;
    readonly softwareVersion: string;
    readonly host: string;
    readonly pid: number;
    readonly threads: number;
    readonly instance: string;
  };
  /** how long a coordinator may be away before the worker gives up, in ms */
  readonly patienceMs: number;
}

/** How long a coordinator may take to answer hello before the worker connects anew, in ms. */
const GREETING_MS = 5000;
/** Waits between attempts to connect: doubled each time, up to the second, and spread by half either way. In ms. */
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;
/** How often the absence of a coordinator is told, in ms. */
const COMPLAIN_EVERY_MS = 10_000;
/** Feature requests that may wait; a coordinator gives one at a time. */
const MOST_REQUESTS = 8;

/** How far the handshake of the present link is. */
type Stage = "down" | "greeting" | "preparing" | "proving" | "ready";

/** What the engine is at, for a link that may be over by now. */
interface Busy {
  readonly link: number;
  readonly rank: number | null;
  readonly chunk: number | null;
}

export class WorkerSession {
  private link = 0;
  private stage: Stage = "down";
  private control = { in: new Numbering(), out: new Numbering() };
  private data = { in: new Numbering(), out: new Numbering() };
  private retryAt = 0;
  /** attempts since the coordinator was last heard of */
  private failures = 0;
  private linkedAt = 0;
  private heardAt: number;
  private dataHeardAt = 0;
  private beatAt = 0;
  private complainedAt: number;
  /** why no connection has come about yet, as far as is known */
  private obstacle = "";

  private welcomed: {
    readonly runId: string;
    readonly workerId: string;
    readonly ticket: string;
    port: number;
  } | null = null;
  private config: RunConfig | null = null;
  private found: Prepared | null = null;

  /** steps that weights and queue include, as far as this link has confirmed them; −1: not yet */
  private weightsVersion = -1;
  private queueVersion = -1;
  /** version of the queue that the engine has, whichever link it came by */
  private queueHeld = -1;
  private isLoading = false;

  private step = -1;
  /** ranks of `step` still to execute; those executed; and those of them whose gradients have not been handed out */
  private ranks: number[] = [];
  private executed: number[] = [];
  private unflushed: number[] = [];
  private requests: FeatureRequest[] = [];
  private busy: Busy | null = null;
  private lastResultAt = 0;
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
    const { heartbeatMs, deadAfterMs } = this.membership();
    if (now - this.heardAt > deadAfterMs) {
      this.lose(`the coordinator has been silent for ${String(Math.round(now - this.heardAt))} ms`);
      return;
    }
    if (this.stage === "ready" && now - this.dataHeardAt > deadAfterMs) {
      this.lose(`the aggregator has been silent for ${String(Math.round(now - this.dataHeardAt))} ms`);
      return;
    }
    if (now - this.beatAt < heartbeatMs) return;
    this.beatAt = now;
    this.say({ body: "heartbeat", heartbeat: {} });
    if (this.stage !== "preparing") this.tell({ body: "alive", alive: {} });
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

  private membership(): RunConfig["membership"] {
    if (this.config === null) throw new Error("there is no config before the welcome");
    return this.config.membership;
  }

  // --- Links.

  private connect(): void {
    this.link++;
    this.stage = "greeting";
    this.linkedAt = this.ports.now();
    this.control = { in: new Numbering(), out: new Numbering() };
    this.data = { in: new Numbering(), out: new Numbering() };
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
      this.end(null);
      return;
    }
    this.stage = "down";
    this.weightsVersion = -1;
    this.queueVersion = -1;
    this.isLoading = false;
    this.clearWork(-1);
    this.requests = [];
    const wait = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.failures++, 10));
    this.retryAt = this.ports.now() + wait * (0.5 + this.ports.random());
  }

  linkLost(link: number, reason: string): void {
    if (link === this.link) this.lose(reason);
  }

  /** Something that could not be read came by a link. */
  misread(link: number, error: WireError): void {
    if (link === this.link) this.lose(error.message);
  }

  private say(message: WorkerMessage, frames: readonly Uint8Array[] = []): void {
    this.ports.say({ ...message, number: this.control.out.next() }, frames);
  }

  private tell(message: WorkerDataMessage, frames: readonly Uint8Array[] = []): void {
    this.ports.tell({ ...message, number: this.data.out.next() }, frames);
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
    const busy = this.busy?.link === this.link ? this.busy : null;
    const inHand = busy === null || busy.rank === null ? [] : [busy.rank];
    const chunks = busy === null || busy.chunk === null ? [] : [busy.chunk];
    this.ranks = [];
    this.requests = [];
    const step = chunks.length > 0 ? this.weightsVersion : this.step;
    this.say({ body: "drain", drain: { step: Math.max(0, step), ranks: [...this.unflushed, ...inHand], chunks } });
  }

  private leave(reason: string): void {
    if (this.stage !== "down") this.say({ body: "goodbye", goodbye: { reason } });
    this.end(null);
  }

  private end(error: UserError | null): void {
    if (this.isOver) return;
    this.isOver = true;
    this.ports.ended(error);
  }

  // --- Handshake.

  heard(link: number, message: CoordinatorMessage, frames: readonly Uint8Array[]): void {
    if (!this.isDue(link, this.control.in, message.number)) return;
    this.heardAt = this.ports.now();
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
        this.end(null);
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
      case "featureRequest":
        this.expectReady();
        if (this.requests.length >= MOST_REQUESTS) throw new WireError("more feature requests than one worker gets");
        if (this.leavesAt === null) this.requests.push(message.featureRequest);
        this.pump();
        return;
      case "ping":
      case undefined:
        return;
    }
  }

  private expectReady(): void {
    if (this.stage !== "ready") throw new WireError("work before the handshake was over");
  }

  private welcome({ runId, workerId, configJson, dataPort, ticket }: Welcome): void {
    if (this.stage !== "greeting") throw new WireError("a welcome comes first, and once");
    const config = configOf(configJson ?? "");
    if (this.welcomed !== null && this.config !== null) {
      const [conflict] = conflictingKeys(this.config, config);
      if (this.welcomed.runId !== runId || conflict !== undefined) {
        const message = `the coordinator at ${this.options.endpoint} now serves another run (${runId ?? ""}): start the worker anew`;
        this.end(new UserError("RUN_CHANGED", message));
        return;
      }
    }
    const isFirst = this.config === null;
    this.config = config;
    this.welcomed = { runId: runId ?? "", workerId: workerId ?? "", ticket: ticket ?? "", port: dataPort ?? 0 };
    this.stage = "preparing";
    this.ports.log(`welcome to ${this.welcomed.runId} as ${this.welcomed.workerId}`);
    if (isFirst) this.ports.prepare(config);
    else if (this.found !== null) this.openData();
  }

  prepared(found: Prepared): void {
    this.found = found;
    if (this.stage === "preparing") this.openData();
  }

  private openData(): void {
    if (this.welcomed === null) throw new Error("data connections come after the welcome");
    const { runId, workerId, ticket, port } = this.welcomed;
    this.stage = "proving";
    const number = this.data.out.next();
    this.ports.openData(this.link, port, { body: "open", open: { runId, workerId, ticket }, number });
    this.ports.prove(this.link, this.queueHeld);
  }

  /** @param holding null: nothing is held */
  proved(link: number, holding: Holding | null): void {
    if (link !== this.link || this.stage !== "proving" || this.found === null) return;
    this.stage = "ready";
    this.dataHeardAt = this.ports.now();
    this.say({ body: "ready", ready: { ...this.found, holding } });
  }

  // --- Updates in.

  private takeQueue({ version, position, held }: QueueSnapshot, frames: readonly Uint8Array[]): void {
    if (held === true && this.queueHeld !== (version ?? 0))
      throw new WireError("a queue that is not held was confirmed");
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

  heardData(link: number, message: AggregatorMessage, frames: readonly Uint8Array[]): void {
    if (!this.isDue(link, this.data.in, message.number)) return;
    this.dataHeardAt = this.ports.now();
    this.guarded(() => {
      if (message.body === "weights") this.takeWeights(message.weights, frames);
    });
  }

  private takeWeights(weights: Weights, frames: readonly Uint8Array[]): void {
    this.expectReady();
    if (weights.runId !== this.welcomed?.runId) throw new WireError(`weights of run ${String(weights.runId)}`);
    if (this.isLoading) throw new WireError("weights came before those before were acknowledged");
    const version = this.ports.takeWeights(weights, frames);
    if (version === null) return;
    this.weightsVersion = version;
    if (weights.unchanged === true) this.acknowledge();
    else {
      this.isLoading = true;
      this.ports.loadWeights(this.link);
    }
    this.pump();
  }

  /** The engine has the weights, so the next may come. */
  weightsLoaded(link: number): void {
    if (link !== this.link || !this.isLoading) return;
    this.isLoading = false;
    this.acknowledge();
  }

  private acknowledge(): void {
    const received = { runId: this.welcomed?.runId ?? "", version: this.weightsVersion };
    this.tell({ body: "received", received });
  }

  // --- Work.

  private takeAssignment({ step, ranks }: Assignment): void {
    const worldSize = this.config?.parallel.worldSize ?? 0;
    const given = ranks ?? [];
    if (given.some((rank) => rank >= worldSize)) throw new WireError("a rank that does not exist was assigned");
    if (this.leavesAt !== null) return;
    if ((step ?? 0) !== this.step) this.clearWork(step ?? 0);
    const pending = new Set(this.ranks);
    this.ranks.push(...given.filter((rank) => !pending.has(rank)));
    this.ports.prefetch(this.step, this.ranks);
    this.pump();
  }

  private clearWork(step: number): void {
    this.step = step;
    this.ranks = [];
    this.executed = [];
    this.unflushed = [];
  }

  /** Begins what is due, one piece at a time, as soon as weights and queue are those of the step. */
  private pump(): void {
    if (this.busy !== null || this.stage !== "ready") return;
    const { link } = this;
    // A chunk of an evaluation that is over was somebody else's too.
    this.requests = this.requests.filter(({ step }) => (step ?? 0) >= this.weightsVersion);
    const [request] = this.requests;
    if (request !== undefined && this.weightsVersion === (request.step ?? 0)) {
      this.requests.shift();
      this.busy = { link, rank: null, chunk: request.chunk ?? 0 };
      const split = request.testSplit === true ? "test" : "train";
      this.ports.features(link, request, { split, start: request.start ?? 0, count: request.count ?? 0 });
      return;
    }
    const { step } = this;
    if (this.weightsVersion !== step || this.queueVersion !== step) return;
    const rank = this.ranks.shift();
    if (rank === undefined) return;
    const isLast = this.ranks.length === 0;
    this.busy = { link, rank, chunk: null };
    this.ports.run(link, step, rank, isLast);
    // The same ranks are likely to come next: their images load while this rank computes, and after its own.
    this.executed.push(rank);
    if (isLast) this.ports.prefetch(step + 1, this.executed);
  }

  rankDone(link: number, step: number, rank: number, flushed: boolean, report: RankReport): void {
    this.busy = null;
    if (link === this.link && this.stage === "ready" && step === this.step) {
      this.unflushed = flushed ? [] : [...this.unflushed, rank];
      this.handOut(step, report.nodes);
      this.sendResult(step, rank, report);
      if (this.leavesAt !== null && !flushed) {
        this.busy = { link, rank, chunk: null };
        this.ports.flush(link, step);
      }
    }
    this.pump();
  }

  flushed(link: number, step: number, nodes: readonly HandedOut[]): void {
    this.busy = null;
    if (link === this.link && this.stage === "ready" && step === this.step) {
      this.unflushed = [];
      this.handOut(step, nodes);
    }
    this.pump();
  }

  private handOut(step: number, nodes: readonly HandedOut[]): void {
    const runId = this.welcomed?.runId ?? "";
    for (const { node, sum } of nodes) {
      const gradient = { runId, step, level: node.level, index: node.index, shared: sum === null };
      this.tell({ body: "gradient", gradient }, sum === null ? [] : toFrames(sum));
    }
  }

  private sendResult(step: number, rank: number, report: RankReport): void {
    const now = this.ports.now();
    const { loss, accuracy, positiveSimilarity, negativeSimilarity, loadMs, forwardMs, backwardMs, graphMs } = report;
    const exchangeMs = Math.max(0, now - this.lastResultAt - loadMs - forwardMs - backwardMs);
    const timings = { loadMs, forwardMs, backwardMs, exchangeMs, graphMs };
    const nonFinite = report.nonFinite ?? "";
    const rankResult = { step, rank, loss, accuracy, positiveSimilarity, negativeSimilarity, timings, nonFinite };
    this.say({ body: "rankResult", rankResult }, toFrames(report.keys));
    this.lastResultAt = now;
  }

  featuresDone(link: number, request: FeatureRequest, features: Float32Array): void {
    this.busy = null;
    if (link === this.link && this.stage === "ready") {
      const { step, chunk } = request;
      this.say({ body: "features", features: { step: step ?? 0, chunk: chunk ?? 0 } }, toFrames(features));
    }
    this.pump();
  }

  corruptSample(name: string): void {
    if (this.stage === "ready") this.say({ body: "corruptSample", corruptSample: { name } });
  }
}

/** @throws WireError where it is no JSON; the coordinator of this very version has validated it */
function configOf(json: string): RunConfig {
  try {
    return JSON.parse(json) as RunConfig;
  } catch (cause) {
    throw new WireError("a welcome without a config", { cause });
  }
}
