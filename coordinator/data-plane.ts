/**
 * An aggregator's end of the data plane: which worker has which weights, what is on its way to it, and whose gradients count.
 * No socket or clock in here: `DataPlanePorts` are all it touches, so a simulation can drive it.
 */
import type { WorkerId } from "../src/protocol/identifiers.js";
import { Numbering } from "../src/protocol/numbering.js";
import type { AggregatorMessage, Gradient, Open, Received, WorkerDataMessage } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { SegmentAddress } from "../src/transport/shared-segment.js";
import type { Aggregator, TrainingState, UpdateRates } from "./aggregator.js";
import type { BucketMessage, Form, Recipient, Sending, WeightsOut } from "./weights-out.js";

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
  /** ranks whose gradients it holds since one came */
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
  readonly digestOf: (weights: Pick<TrainingState, "query" | "key" | "queryBuffers">) => string;
}

/** A worker that is expected, and its connection once it has opened one. */
interface Peer extends Recipient {
  readonly worker: WorkerId;
  readonly ticket: string;
  readonly incoming: Numbering;
  readonly outgoing: Numbering;
  isAdmitted: boolean;
  holding: WeightsHeld | null;
  address: string | null;
  /** the weights on their way to it; null: it has said that it has them. One at a time: newer ones wait. */
  sending: Sending | null;
  takesBfloat16: boolean;
  bandwidth: number | null;
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
    /** silence after which a worker's connection is given up, in ms */
    private readonly deadAfterMs: number,
    private readonly aggregator: Aggregator,
    private readonly weights: WeightsOut,
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
    if (message.body === "received") this.acknowledged(peer, message.received);
    else if (message.body === "gradient") this.takeGradient(peer, message.gradient, frames);
  }

  private expect(worker: WorkerId, ticket: string): void {
    this.peers.set(worker, {
      ...{ worker, ticket, incoming: new Numbering(), outgoing: new Numbering() },
      ...{ isAdmitted: false, holding: null, address: null, sending: null, holds: -1, heardAt: 0, segment: null },
      ...{ takesBfloat16: false, bandwidth: null, sharedStep: -1 },
    });
  }

  private open(
    address: string,
    { runId, workerId, ticket, segment, bfloat16 }: Open,
    number: number | null | undefined,
  ): void {
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
    // Through memory it finds the state's own.
    peer.takesBfloat16 = bfloat16 === true && this.weights.rounds && peer.segment === null;
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
    if (holding?.version === state.version && holding.sha256 === this.digestFor(peer)) this.confirm(peer, state);
    else this.sendWhole(peer);
  }

  /** Of the weights of now, as the worker has them if it has them. */
  private digestFor({ takesBfloat16 }: Peer): string {
    return this.weights.asHeld(this.aggregator.state, takesBfloat16, this.ports.digestOf);
  }

  private acknowledged(peer: Peer, { version: given, bandwidth }: Received): void {
    const version = given ?? 0;
    if (version !== peer.sending?.version) {
      throw new WireError(`${peer.worker} acknowledges weights that are not on their way`);
    }
    this.sent(peer);
    peer.holds = version;
    if (typeof bandwidth === "number" && bandwidth > 0) peer.bandwidth = bandwidth;
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
    const applied = () => {
      ports.report({ kind: "applied", step, applyMs: ports.now() - start });
    };
    if (rates === null) {
      aggregator.skip();
      this.weights.skipped(version + 1);
      applied();
      for (const peer of receivers) {
        if (peer.holds === version) this.confirm(peer, aggregator.state);
        else this.sendWhole(peer);
      }
      return;
    }
    const forms = apart.map((peer) => ({ peer, form: this.weights.formFor(peer, version) }));
    const keysAtOnce = sharing.length > 0 || forms.some(({ form }) => form !== "query");
    for (const { next, bucket } of aggregator.apply(rates, keysAtOnce)) {
      if (bucket === 0) for (const { peer, form } of forms) peer.sending = this.weights.hold(next, form);
      this.sendBucket(
        apart.filter(({ sending: own }) => own?.version === next.version),
        next,
        bucket,
        rates.keyMomentum,
      );
      // θk may still have to follow; nothing else's turn comes before.
      if (bucket === aggregator.buckets.length - 1) applied();
    }
    for (const peer of sharing) this.sendWhole(peer);
  }

  /** The worker has what was on its way, or is gone. */
  private sent(peer: Peer): void {
    if (peer.sending !== null) this.weights.release(peer.sending);
    peer.sending = null;
  }

  /** What the worker holds is the state, under another number or the same: nothing has to travel. */
  private confirm(peer: Peer, state: TrainingState): void {
    peer.sending = this.weights.hold(state, "whole");
    this.tell(peer, { body: "weights", weights: { runId: this.runId, version: state.version, unchanged: true } });
  }

  /** Everything of the state as it is now. */
  private sendWhole(peer: Peer): void {
    const { state } = this.aggregator;
    const { version } = state;
    const slot = peer.segment === null ? null : (this.ports.sharedStates?.slotOf(state) ?? null);
    peer.sending = this.weights.hold(state, peer.takesBfloat16 ? "bfloat16" : "whole");
    if (slot !== null) {
      this.tell(peer, { body: "weights", weights: { runId: this.runId, version, slot } });
      return;
    }
    for (const bucket of this.aggregator.buckets.keys()) this.sendBucket([peer], state, bucket, null);
  }

  /** @param keyMomentum m by which θk follows where it is not sent */
  private sendBucket(peers: readonly Peer[], of: TrainingState, bucket: number, keyMomentum: number | null): void {
    const messages = new Map<Form, BucketMessage>();
    for (const peer of peers) {
      const form = peer.sending?.form ?? "whole";
      const message = messages.get(form) ?? this.weights.message(of, bucket, form, keyMomentum);
      messages.set(form, message);
      this.tell(peer, { body: "weights", weights: message.weights }, message.frames);
    }
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
    this.sent(peer);
  }
}
