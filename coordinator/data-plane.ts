/**
 * An aggregator's end of the data plane: which worker has which weights, what is on its way to it, and whose gradients count.
 * No socket or clock in here: `DataPlanePorts` are all it touches, so a simulation can drive it.
 */
import { weightsParts } from "../src/models/exchange.js";
import { sliceOf } from "../src/models/shards.js";
import { toFrames } from "../src/protocol/frames.js";
import type { WorkerId } from "../src/protocol/identifiers.js";
import { Numbering } from "../src/protocol/numbering.js";
import type { AggregatorMessage, Gradient, Open, WorkerDataMessage } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { SegmentAddress } from "../src/transport/shared-segment.js";
import type { Aggregator, ShardLengths, TrainingState, UpdateRates } from "./aggregator.js";

/** Code of the failure where the coordinator has asked for what cannot be done. */
export const ORDER_INVALID = "ORDER_INVALID";

/** What the coordinator asks of an aggregator. */
export type AggregatorCommand =
  /** a worker has been welcomed, and will open a connection with this ticket */
  | { readonly kind: "expect"; readonly worker: WorkerId; readonly ticket: string }
  /** it takes part from now on; `holding`: the weights that it says it has */
  | { readonly kind: "admit"; readonly worker: WorkerId; readonly holding: WeightsHeld | null }
  | { readonly kind: "forget"; readonly worker: WorkerId }
  /** answered by `measured`: what the norm of the whole gradient of step `step` is made of */
  | { readonly kind: "measure"; readonly step: number }
  /** the update of step `step`; without rates it is skipped, and the weights stay as they are */
  | { readonly kind: "apply"; readonly step: number; readonly rates: UpdateRates | null }
  /** answered by `captured` with the state as it is now, which is held until `release` */
  | { readonly kind: "capture" }
  | { readonly kind: "release"; readonly version: number }
  /** every heartbeat interval */
  | { readonly kind: "tick" };

/** What an aggregator tells its coordinator. */
export type AggregatorReport =
  | { readonly kind: "held"; readonly step: number; readonly ranks: readonly number[] }
  /** see `Aggregator.squares` */
  | { readonly kind: "measured"; readonly step: number; readonly squares: readonly number[] }
  | { readonly kind: "applied"; readonly step: number; readonly applyMs: number }
  | { readonly kind: "captured"; readonly state: TrainingState }
  /** a worker's connection is of no more use; the ticket tells which of its connections */
  | { readonly kind: "lost"; readonly worker: WorkerId; readonly ticket: string; readonly reason: string }
  | { readonly kind: "dropped"; readonly reason: string };

export interface WeightsHeld {
  readonly version: number;
  /** hex, see `digestOf` */
  readonly sha256: string;
}

/** Memory that a worker on this machine shares; see `SharedSegment`. */
export interface Segment {
  /** where its gradients lie, in the aggregator's arena */
  readonly gradient: Float32Array;
  close(): void;
}

/** Memory that the aggregator shares with workers on its machine. */
export interface SharedStates {
  readonly address: SegmentAddress;
  /** null: its weights are not in it */
  slotOf(state: TrainingState): number | null;
}

export interface DataPlanePorts {
  /** monotonic clock in ms */
  readonly now: () => number;
  /** what cannot be sent comes back as `unreachable` */
  readonly send: (address: string, message: AggregatorMessage, frames: readonly Uint8Array[]) => void;
  readonly report: (report: AggregatorReport) => void;
  /** null where the segment is not on this machine */
  readonly openSegment: (offered: SegmentAddress) => Segment | null;
  /** null: none */
  readonly sharedStates: SharedStates | null;
  /** hex sha256 of θq, θk and the query encoder's buffers, one after another */
  readonly digestOf: (state: TrainingState) => string;
}

/** A worker that is expected, and its connection once it has opened one. */
interface Peer {
  readonly worker: WorkerId;
  readonly ticket: string;
  readonly incoming: Numbering;
  readonly outgoing: Numbering;
  isAdmitted: boolean;
  holding: WeightsHeld | null;
  address: string | null;
  /** version of the weights on their way to it; null: it has said that it has them. One at a time: newer ones wait. */
  sending: number | null;
  /** version that it has said to have; −1: none yet */
  holds: number;
  /** when its connection was last heard of, or was due from, in ms */
  heardAt: number;
  segment: Segment | null;
  /** step of the gradient that has lain in the segment last; −1: none yet */
  sharedStep: number;
}

export class DataPlane {
  private readonly peers = new Map<WorkerId, Peer>();
  private readonly byAddress = new Map<string, Peer>();

  constructor(
    private readonly runId: string,
    private readonly layout: ShardLengths,
    /** silence after which a worker's connection is given up, in ms */
    private readonly deadAfterMs: number,
    private readonly aggregator: Aggregator,
    private readonly ports: DataPlanePorts,
  ) {}

  obey(command: AggregatorCommand): void {
    const peer = "worker" in command ? this.peers.get(command.worker) : undefined;
    switch (command.kind) {
      case "expect":
        if (peer !== undefined) this.close(peer);
        this.expect(command.worker, command.ticket);
        return;
      case "admit":
        if (peer === undefined) return;
        peer.isAdmitted = true;
        peer.holding = command.holding;
        peer.heardAt = this.ports.now();
        this.begin(peer);
        return;
      case "forget":
        if (peer !== undefined) this.close(peer);
        return;
      case "measure":
        this.ports.report({ kind: "measured", step: command.step, squares: this.aggregator.squares() });
        return;
      case "apply":
        this.apply(command.step, command.rates);
        return;
      case "capture":
        this.ports.report({ kind: "captured", state: this.aggregator.hold() });
        return;
      case "release":
        this.aggregator.release(command.version);
        return;
      case "tick":
        this.tick();
        return;
    }
  }

  received(address: string, message: WorkerDataMessage, frames: readonly Uint8Array[]): void {
    try {
      this.hear(address, message, frames);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.misread(error);
    }
  }

  misread(error: WireError): void {
    this.ports.report({ kind: "dropped", reason: error.message });
  }

  unreachable(address: string): void {
    const peer = this.byAddress.get(address);
    if (peer !== undefined) this.lose(peer, "its data connection is closed or stalled");
  }

  private tick(): void {
    const now = this.ports.now();
    // An array: whoever turns out to be gone leaves the peers meanwhile.
    for (const peer of [...this.peers.values()]) {
      const silence = now - peer.heardAt;
      if (peer.isAdmitted && silence > this.deadAfterMs) {
        this.lose(peer, `silent on its data connection for ${String(Math.round(silence))} ms`);
      } else this.tell(peer, { body: "alive", alive: {} });
    }
  }

  private hear(address: string, message: WorkerDataMessage, frames: readonly Uint8Array[]): void {
    if (message.body === "open") {
      this.open(address, message.open, message.number);
      return;
    }
    const peer = this.byAddress.get(address);
    if (peer === undefined) throw new WireError(`${String(message.body)} on a data connection that nobody opened`);
    switch (peer.incoming.arrived(message.number)) {
      case "repeated":
        throw new WireError(`data message ${String(message.number)} of ${peer.worker} has been here before`);
      case "gap":
        this.lose(peer, "a data message of it is missing");
        return;
      case "due":
        peer.heardAt = this.ports.now();
    }
    if (message.body === "alive") return;
    if (!peer.isAdmitted) throw new WireError(`${String(message.body)} from ${peer.worker}, which is not admitted`);
    if (message.body === "received") this.acknowledged(peer, message.received.version ?? 0);
    else if (message.body === "gradient") this.takeGradient(peer, message.gradient, frames);
  }

  private expect(worker: WorkerId, ticket: string): void {
    this.peers.set(worker, {
      ...{ worker, ticket, incoming: new Numbering(), outgoing: new Numbering() },
      ...{ isAdmitted: false, holding: null, address: null, sending: null, holds: -1, heardAt: 0, segment: null },
      sharedStep: -1,
    });
  }

  private open(address: string, { runId, workerId, ticket, segment }: Open, number: number | null | undefined): void {
    const peer = this.peers.get((workerId ?? "") as WorkerId);
    // The ticket is a secret between the coordinator and this worker's process.
    if (runId !== this.runId || peer === undefined || peer.ticket !== ticket) {
      throw new WireError("a data connection of a worker that is not expected");
    }
    if (peer.address !== null) throw new WireError(`a second data connection of ${peer.worker}`);
    if (peer.incoming.arrived(number) !== "due") throw new WireError("open comes first on a data connection");
    const { process, file, token } = segment ?? {};
    const isOffered = typeof process === "number" && typeof file === "number" && token instanceof Uint8Array;
    const { sharedStates, openSegment } = this.ports;
    peer.segment = isOffered && sharedStates !== null ? openSegment({ process, file, token }) : null;
    peer.address = address;
    this.byAddress.set(address, peer);
    if (peer.segment !== null) this.tell(peer, { body: "memory", memory: sharedStates?.address ?? {} });
    this.begin(peer);
  }

  /** The first weights, once the worker is admitted and has opened its connection. */
  private begin(peer: Peer): void {
    if (!peer.isAdmitted || peer.address === null || peer.sending !== null) return;
    const { state } = this.aggregator;
    const { holding } = peer;
    if (holding?.version === state.version && holding.sha256 === this.ports.digestOf(state)) this.confirm(peer, state);
    else this.sendWhole(peer);
  }

  private acknowledged(peer: Peer, version: number): void {
    if (version !== peer.sending) {
      throw new WireError(`${peer.worker} acknowledges weights that are not on their way`);
    }
    peer.sending = null;
    peer.holds = version;
    this.aggregator.release(version);
    if (version !== this.aggregator.state.version) this.sendWhole(peer);
  }

  private takeGradient(peer: Peer, gradient: Gradient, frames: readonly Uint8Array[]): void {
    if (gradient.runId !== this.runId) throw new WireError(`gradient of run ${String(gradient.runId)}`);
    const step = gradient.step ?? 0;
    const node = { level: gradient.level ?? 0, index: gradient.index ?? 0 };
    const shared = gradient.shared === true ? peer.segment : null;
    if (gradient.shared === true && shared === null) {
      throw new WireError(`${peer.worker} speaks of memory that it does not share`);
    }
    if (shared !== null) {
      // The first may be part of a sum by now, which lies there.
      if (peer.sharedStep === step) throw new WireError(`a second gradient of ${peer.worker} in the same memory`);
      peer.sharedStep = step;
    }
    const read = (target: Float32Array) => {
      this.aggregator.unpack(frames, target);
    };
    const ranks = this.aggregator.accept(step, node, shared?.gradient ?? read);
    if (ranks !== null) this.ports.report({ kind: "held", step, ranks });
  }

  /** While one bucket is on its way to the workers, the next is computed. */
  private apply(step: number, rates: UpdateRates | null): void {
    const { aggregator, ports } = this;
    const start = ports.now();
    // Those that have nothing on their way.
    const receivers = [...this.peers.values()].filter(
      ({ isAdmitted, address, sending }) => isAdmitted && address !== null && sending === null,
    );
    const { version } = aggregator.state;
    // Those with whom memory is shared find the whole where it is made; the others are sent it as it is made.
    const sharing = receivers.filter(({ segment }) => segment !== null);
    const apart = receivers.filter(({ segment }) => segment === null);
    const upToDate = apart.filter(({ holds }) => holds === version);
    const behind = apart.filter(({ holds }) => holds !== version);
    const applied = () => {
      ports.report({ kind: "applied", step, applyMs: ports.now() - start });
    };
    if (rates === null) {
      aggregator.skip();
      applied();
      for (const peer of receivers) {
        if (peer.holds === version) this.confirm(peer, aggregator.state);
        else this.sendWhole(peer);
      }
      return;
    }
    for (const { next, bucket } of aggregator.apply(rates, behind.length + sharing.length > 0)) {
      if (bucket === 0) for (const peer of apart) peer.sending = aggregator.hold(next).version;
      this.sendBucket(upToDate, next, bucket, rates.keyMomentum);
      this.sendBucket(behind, next, bucket, null);
      // θk may still have to follow; nothing else's turn comes before.
      if (bucket === aggregator.buckets.length - 1) applied();
    }
    for (const peer of sharing) this.sendWhole(peer);
  }

  /** What the worker holds is the state, under another number or the same: nothing has to travel. */
  private confirm(peer: Peer, state: TrainingState): void {
    peer.sending = this.aggregator.hold(state).version;
    this.tell(peer, { body: "weights", weights: { runId: this.runId, version: state.version, unchanged: true } });
  }

  /** Everything of the state as it is now. */
  private sendWhole(peer: Peer): void {
    const current = this.aggregator.hold();
    const { version } = current;
    peer.sending = version;
    const slot = peer.segment === null ? null : (this.ports.sharedStates?.slotOf(current) ?? null);
    if (slot !== null) {
      this.tell(peer, { body: "weights", weights: { runId: this.runId, version, slot } });
      return;
    }
    for (const bucket of this.aggregator.buckets.keys()) this.sendBucket([peer], current, bucket, null);
  }

  /**
   * ZeroMQ sends from the state's own memory, so the state is held until the worker has it, or is gone.
   * @param keyMomentum m by which the worker lets θk follow; null: θk is sent
   */
  private sendBucket(peers: readonly Peer[], of: TrainingState, bucket: number, keyMomentum: number | null): void {
    if (peers.length === 0) return;
    const place = this.aggregator.buckets[bucket];
    const parts = weightsParts(this.layout, place, bucket, keyMomentum !== null);
    const frames = toFrames(
      ...parts.map(({ name }) => (name === "buffers" ? of.queryBuffers : sliceOf(of[name], place))),
    );
    const weights = { runId: this.runId, version: of.version, bucket, keyMomentum };
    for (const peer of peers) if (peer.sending === of.version) this.tell(peer, { body: "weights", weights }, frames);
  }

  private tell(peer: Peer, message: AggregatorMessage, frames: readonly Uint8Array[] = []): void {
    if (peer.address === null) return;
    this.ports.send(peer.address, { ...message, number: peer.outgoing.next() }, frames);
  }

  private lose(peer: Peer, reason: string): void {
    this.close(peer);
    this.ports.report({ kind: "lost", worker: peer.worker, ticket: peer.ticket, reason });
  }

  private close(peer: Peer): void {
    if (this.peers.get(peer.worker) === peer) this.peers.delete(peer.worker);
    if (peer.address !== null) this.byAddress.delete(peer.address);
    // A gradient of the open step may lie there, which counts.
    const { segment } = peer;
    if (segment !== null) {
      this.aggregator.afterStep(() => {
        segment.close();
      });
    }
    peer.segment = null;
    peer.address = null;
    if (peer.sending !== null) this.aggregator.release(peer.sending);
    peer.sending = null;
  }
}
