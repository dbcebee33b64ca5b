/**
 * A network of machines in virtual time. A message takes its turn at its sender's link, at the switch between them and at its receiver's
 * link, piece by piece; messages too small to matter do not wait behind large ones, as packets of other connections would not. Messages of one
 * connection keep their order.
 */
import type { Agenda } from "./agenda.js";

export interface NetworkOptions {
  /** of each machine's link, in each direction */
  readonly gbits: number;
  /** one way, in ms */
  readonly latencyMs: number;
  /** what all links together could carry, over what the switch between them does; 1: all of it */
  readonly oversubscription: number;
  /** whether processes of one machine share memory; otherwise they send */
  readonly sharesMemory: boolean;
}

/** Payload of a packet over what it takes of an Ethernet link: 1448 bytes of 1514. */
const PAYLOAD_SHARE = 1448 / 1514;
/** Bytes of a message that wait behind nobody's. */
const SMALL = 1 << 16;
/** Pieces that a large message leaves in, between which others have their turns, as packets of TCP's connections do. */
const PIECES = 8;
/** At which processes of one machine share memory, in GB/s. */
const MEMORY_GBYTES = 8;

/** Whatever carries one thing after another. */
export class Line {
  private takenUntil = 0;
  /** in ms, since `reset` */
  busyMs = 0;

  /** @param msPerByte 0: as fast as one likes */
  constructor(readonly msPerByte: number) {}

  /** when what was given to it is through */
  get freeAt(): number {
    return this.takenUntil;
  }

  /** @returns when bytes that come at `from` are through */
  take(from: number, bytes: number): number {
    const ms = bytes * this.msPerByte;
    this.busyMs += ms;
    this.takenUntil = Math.max(this.takenUntil, from) + ms;
    return this.takenUntil;
  }

  reset(): void {
    this.busyMs = 0;
  }
}

/** A large message that leaves in pieces. */
interface Leaving {
  left: number;
  readonly piece: number;
  readonly due: (time: number) => void;
}

export class Machine {
  readonly out: Line;
  readonly in: Line;
  /** connections on which something is to leave, in the order of their turns */
  readonly waiting: Way[] = [];
  isSending = false;

  constructor(msPerByte: number) {
    this.out = new Line(msPerByte);
    this.in = new Line(msPerByte);
  }
}

/** One end of connections: what a process's network thread sends and receives takes that thread's time. */
export interface Endpoint {
  readonly machine: Machine;
  readonly io: Line;
}

interface Travelling {
  /** when it could arrive; null: it waits for its turn at a line */
  due: number | null;
  readonly arrive: () => void;
}

/** One direction of a connection. */
export class Way {
  /** one after another */
  readonly leaving: Leaving[] = [];
  private readonly travelling: Travelling[] = [];
  private last = 0;

  constructor(
    readonly from: Endpoint,
    readonly to: Endpoint,
  ) {}

  /** @returns says when the message could arrive, which it does no earlier than those before it */
  send(agenda: Agenda, arrive: () => void): (due: number) => void {
    const own: Travelling = { due: null, arrive };
    const { travelling } = this;
    travelling.push(own);
    return (due) => {
      own.due = due;
      for (let first = travelling[0]; first?.due != null; first = travelling[0]) {
        this.last = Math.max(this.last, first.due);
        agenda.at(this.last, first.arrive);
        travelling.shift();
      }
    };
  }
}

export class Network {
  readonly machines: Machine[] = [];
  private readonly msPerByte: number;
  private core = new Line(0);

  /**
   * @param hopMs of a message beside its bytes and the latency: threads that wake up
   * @param ioMsPerByte of a process's network thread
   */
  constructor(
    private readonly agenda: Agenda,
    private readonly options: NetworkOptions,
    private readonly hopMs: number,
    private readonly ioMsPerByte: number,
  ) {
    this.msPerByte = 8 / (options.gbits * 1e6 * PAYLOAD_SHARE);
  }

  newMachine(): Machine {
    const machine = new Machine(this.msPerByte);
    this.machines.push(machine);
    this.core = new Line((this.msPerByte * this.options.oversubscription) / this.machines.length);
    return machine;
  }

  newEndpoint(machine: Machine): Endpoint {
    return { machine, io: new Line(this.ioMsPerByte) };
  }

  /** @param at when it leaves, in ms */
  carry(way: Way, bytes: number, at: number, arrive: () => void): void {
    const { agenda } = this;
    const { from, to } = way;
    const due = way.send(agenda, arrive);
    const deliver = (time: number) => {
      due(time + this.hopMs);
    };
    const { latencyMs, sharesMemory } = this.options;
    if (from.machine === to.machine) {
      const through = () => Math.max(from.io.take(at, bytes), to.io.take(at, bytes));
      deliver(sharesMemory ? at + bytes / (MEMORY_GBYTES * 1e6) : through());
      return;
    }
    if (bytes <= SMALL) {
      for (const line of [from.io, from.machine.out, this.core, to.machine.in, to.io]) line.take(at, bytes);
      deliver(at + latencyMs + bytes * this.msPerByte);
      return;
    }
    agenda.at(at, () => {
      way.leaving.push({ left: bytes, piece: Math.ceil(bytes / PIECES), due: deliver });
      if (way.leaving.length > 1) return;
      from.machine.waiting.push(way);
      if (!from.machine.isSending) this.send(from.machine);
    });
  }

  /** A piece's first byte is at each stage as soon as it has left the one before; its last cannot be through earlier than there. */
  private send(machine: Machine): void {
    const way = machine.waiting.shift();
    const message = way?.leaving[0];
    machine.isSending = message !== undefined;
    if (way === undefined || message === undefined) return;
    const { agenda } = this;
    const { from, to } = way;
    const { now } = agenda;
    const bytes = Math.min(message.left, message.piece);
    const there = now + this.options.latencyMs;
    const sent = Math.max(machine.out.take(now, bytes), from.io.take(now, bytes));
    const through = Math.max(sent, this.core.take(now, bytes)) + this.options.latencyMs;
    const arrived = Math.max(through, to.machine.in.take(there, bytes), to.io.take(there, bytes));
    message.left -= bytes;
    if (message.left === 0) {
      way.leaving.shift();
      message.due(arrived);
    }
    if (way.leaving.length > 0) machine.waiting.push(way);
    agenda.at(sent, () => {
      this.send(machine);
    });
  }

  /** of the switch, in ms, since `reset` */
  get coreBusyMs(): number {
    return this.core.busyMs;
  }

  reset(): void {
    this.core.reset();
    for (const machine of this.machines) for (const line of [machine.out, machine.in]) line.reset();
  }
}
