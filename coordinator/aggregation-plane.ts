/** The coordinator's end of the aggregation plane: aggregators that are processes of their own, as they come and go. */
import { clearInterval, setInterval } from "node:timers";
import { Numbering } from "../src/protocol/numbering.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import {
  orderCodec,
  PROTOCOL_VERSION,
  reportCodec,
  type AggregatorAddress,
  type AggregatorHello,
  type OrderMessage,
  type ReportMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { RouterSocket, type Guard } from "../src/transport/index.js";
import type { TrainingState } from "./aggregator.js";
import { beginOf, framesOf, orderOf, reportOf, type BeginOptions } from "./aggregation-wire.js";
import type { AggregatorHandle, AggregatorListener } from "./aggregators.js";
import type { AggregatorCommand } from "./data-plane.js";
import { DropLog } from "./drop-log.js";

const PLANE = "aggregation plane";
/** Aggregators connected at once, those that wait included; another is refused. */
const MOST_AGGREGATORS = 1024;
/** An aggregator that has nothing to do yet does not know how often it is to be heard of, in ms. */
const IDLE_SILENCE_MS = 5000;

/** Strangers who are told that they have no part in the run, between two ticks. */
const MOST_TURNED_AWAY = 64;

export interface PlaneOptions {
  /** null: whoever reaches the port may speak */
  readonly guard: Guard | null;
  readonly heartbeatMs: number;
  readonly dropped: (peer: string, reason: string) => void;
}

/** An aggregator is gone before it had begun. */
export class AggregatorGone extends Error {}

/** One connection of an aggregator's process. */
export class RemoteAggregator implements AggregatorHandle {
  readonly incoming = new Numbering();
  private readonly outgoing = new Numbering();
  private listener: AggregatorListener | null = null;
  /** what it was begun with; null: it waits */
  private begun: BeginOptions | null = null;
  private beginning: { resolve: (address: AggregatorAddress) => void; reject: (error: Error) => void } | null = null;
  private isGone = false;

  constructor(
    /** how to call it in messages */
    readonly name: string,
    private readonly publicKey: string,
    private readonly send: (order: OrderMessage, frames: readonly Uint8Array[]) => void,
    public heardAt: number,
  ) {}

  get mayBeSilentMs(): number {
    return this.begun?.deadAfterMs ?? IDLE_SILENCE_MS;
  }

  /**
   * Hands it a shard.
   * @param state the shard's
   * @returns where its data plane is
   * @throws AggregatorGone where it is gone meanwhile, or cannot take the shard
   */
  begin(options: BeginOptions, state: TrainingState): Promise<AggregatorAddress> {
    this.begun = options;
    return new Promise((resolve, reject) => {
      if (this.isGone) throw new AggregatorGone(`${this.name} is gone`);
      this.beginning = { resolve, reject };
      this.tell({ body: "begin", begin: beginOf(options, state) }, framesOf(state));
    });
  }

  listen(listener: AggregatorListener): void {
    this.listener = listener;
    if (this.isGone) listener.gone(`${this.name} is gone`);
  }

  command(command: AggregatorCommand): void {
    this.tell(orderOf(command));
  }

  tell(order: OrderMessage, frames: readonly Uint8Array[] = []): void {
    if (!this.isGone) this.send({ ...order, number: this.outgoing.next() }, frames);
  }

  /** @throws WireError where the message does not fit */
  hear(message: ReportMessage, frames: readonly Uint8Array[]): void {
    if (message.body === "listening") {
      const { host, port } = message.listening;
      this.beginning?.resolve({ host: host ?? "", port: port ?? 0, publicKey: this.publicKey });
      this.beginning = null;
      return;
    }
    if (message.body === "leaving") {
      this.listener?.leaving(`${this.name} was asked to stop`);
      return;
    }
    const report = this.begun === null ? null : reportOf(message, frames, this.begun.options);
    if (report !== null) this.listener?.reported(report);
  }

  gone(reason: string): void {
    if (this.isGone) return;
    this.isGone = true;
    this.beginning?.reject(new AggregatorGone(`${this.name}: ${reason}`));
    this.listener?.gone(`${this.name}: ${reason}`);
  }
}

export class AggregationPlane {
  private readonly socket: RouterSocket<ReportMessage, OrderMessage>;
  /** in the order in which they came */
  private readonly peers = new Map<string, RemoteAggregator>();
  private readonly timer: NodeJS.Timeout;
  private readonly drops: DropLog;
  private changed: () => void = () => undefined;
  private bound = "";
  private turnedAway = 0;
  /** what whoever comes is told; null: the run goes on */
  private over: OrderMessage | null = null;

  private constructor(options: PlaneOptions) {
    this.drops = new DropLog(() => performance.now(), options.dropped);
    this.socket = new RouterSocket(reportCodec, orderCodec, {
      guard: options.guard,
      misread: (_peer, error) => {
        this.drops.count(PLANE, error.message);
      },
      refused: (reason) => {
        this.drops.count("stranger", reason);
      },
      // Whoever is gone shows when it is spoken to.
      disconnected: () => {
        this.ping();
      },
    });
    this.timer = setInterval(() => {
      this.tick();
    }, options.heartbeatMs);
  }

  /** @throws UserError as `RouterSocket.bind` */
  static async open(endpoint: string, options: PlaneOptions): Promise<AggregationPlane> {
    const plane = new AggregationPlane(options);
    try {
      plane.bound = await plane.socket.bind(endpoint);
    } catch (error) {
      plane.close();
      throw error;
    }
    void plane.serve();
    return plane;
  }

  /** where it listens, with its port */
  get endpoint(): string {
    return this.bound;
  }

  /**
   * Waits for aggregators.
   * @param patienceMs after which fewer will do, but no fewer than `least`; null: never
   * @param waiting hears how many are here, whenever that changes
   * @returns the first that came, at most `count`; none where `signal` was aborted
   */
  async gather(
    count: number,
    {
      least,
      patienceMs,
      signal,
      waiting,
    }: { least: number; patienceMs: number | null; signal: AbortSignal; waiting: (here: number) => void },
  ): Promise<RemoteAggregator[]> {
    const until = patienceMs === null ? Infinity : performance.now() + patienceMs;
    let told = count;
    while (!signal.aborted) {
      const here = [...this.peers.values()].slice(0, count);
      const left = until - performance.now();
      const isEnough = here.length >= least;
      if (here.length === count || (isEnough && left <= 0)) return here;
      if (here.length !== told) waiting((told = here.length));
      await this.change(isEnough ? left : Infinity, signal);
    }
    return [];
  }

  /** They are of no more use as they are: those that live may connect anew. */
  drop(aggregators: readonly RemoteAggregator[], reason: string): void {
    for (const [address, peer] of this.peers) {
      if (!aggregators.includes(peer)) continue;
      peer.tell({ body: "dropped", dropped: { reason } });
      this.peers.delete(address);
      peer.gone(reason);
    }
  }

  /** Tells all that they may go, and whoever comes from now on. */
  farewell(reason: string): void {
    this.over = { body: "finished", finished: { reason } };
    for (const peer of this.peers.values()) peer.tell(this.over);
  }

  close(): void {
    clearInterval(this.timer);
    this.socket.close();
  }

  private async change(withinMs: number, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | null = null;
    let wake: () => void = () => undefined;
    await new Promise<void>((resolve) => {
      this.changed = wake = resolve;
      signal.addEventListener("abort", wake);
      if (withinMs !== Infinity) timer = setTimeout(wake, Math.max(1, withinMs));
    });
    signal.removeEventListener("abort", wake);
    if (timer !== null) clearTimeout(timer);
  }

  private async serve(): Promise<void> {
    await this.socket.listen((address, message, frames) => {
      try {
        this.hear(address, message, frames);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.drops.count(PLANE, error.message);
      }
    });
  }

  private hear(address: string, message: ReportMessage, frames: readonly Uint8Array[]): void {
    const peer = this.peers.get(address);
    if (message.body === "hello") {
      if (peer !== undefined || message.number !== 1)
        throw new WireError("an aggregator's hello comes first, and once");
      this.greet(address, message.hello);
      return;
    }
    if (peer === undefined) {
      this.turnAway(address);
      throw new WireError(`${String(message.body)} from an aggregator that has not said hello`);
    }
    switch (peer.incoming.arrived(message.number)) {
      case "repeated":
        throw new WireError(`report ${String(message.number)} of ${peer.name} has been here before`);
      case "gap":
        this.lose(address, "a report of it is missing");
        return;
      case "due":
    }
    peer.heardAt = performance.now();
    // It ends with the fault, and says so where it was started; here it is one that is gone.
    if (message.body === "failed") this.lose(address, message.failed.message ?? "it has failed");
    else peer.hear(message, frames);
  }

  private greet(address: string, hello: AggregatorHello): void {
    const { protocolVersion, softwareVersion, host, pid, publicKey } = hello;
    const refuse = (code: string, reason: string) => {
      this.drops.count(PLANE, reason);
      const refused: OrderMessage = { body: "refused", refused: { code, reason }, number: 1 };
      this.socket.post(address, refused, [], () => undefined);
    };
    if (protocolVersion !== PROTOCOL_VERSION || softwareVersion !== SOFTWARE_VERSION) {
      refuse(
        "AGGREGATOR_VERSION",
        `aggregator version ${String(softwareVersion)} (protocol ${String(protocolVersion)}) does not fit the coordinator's ` +
          `${SOFTWARE_VERSION} (protocol ${String(PROTOCOL_VERSION)}): install the same version on both`,
      );
      return;
    }
    if (this.peers.size >= MOST_AGGREGATORS) {
      refuse("TOO_MANY_AGGREGATORS", `the run has ${String(MOST_AGGREGATORS)} aggregators already`);
      return;
    }
    const send = (order: OrderMessage, frames: readonly Uint8Array[]) => {
      this.socket.post(address, order, frames, () => {
        this.lose(address, "its connection is closed or stalled");
      });
    };
    const name = `aggregator ${String(host)}/${String(pid)}`;
    const peer = new RemoteAggregator(name, publicKey ?? "", send, performance.now());
    peer.incoming.arrived(1);
    this.peers.set(address, peer);
    peer.tell(this.over ?? { body: "alive", alive: {} });
    this.changed();
  }

  private lose(address: string, reason: string): void {
    const peer = this.peers.get(address);
    if (peer === undefined) return;
    // First of all: what is told may come back as unreachable.
    this.peers.delete(address);
    peer.tell({ body: "dropped", dropped: { reason } });
    peer.gone(reason);
    this.changed();
  }

  /** Whoever is not known is told so, that it may connect anew; not more often than it costs little. */
  private turnAway(address: string): void {
    if (++this.turnedAway > MOST_TURNED_AWAY) return;
    const dropped: OrderMessage = {
      body: "dropped",
      dropped: { reason: "the coordinator does not know it" },
      number: 1,
    };
    this.socket.post(address, dropped, [], () => undefined);
  }

  private ping(): void {
    for (const peer of this.peers.values()) peer.tell({ body: "alive", alive: {} });
  }

  private tick(): void {
    const now = performance.now();
    for (const [address, peer] of [...this.peers]) {
      const silence = now - peer.heardAt;
      if (silence > peer.mayBeSilentMs) this.lose(address, `silent for ${String(Math.round(silence))} ms`);
    }
    this.turnedAway = 0;
    this.drops.tick();
    this.ping();
  }
}
