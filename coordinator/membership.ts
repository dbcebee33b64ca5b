/**
 * The door of the control plane: who is connected, how far its handshake is, and whether it may join.
 * Hello → Welcome → (the worker starts its engine and lists its data) → Ready → admitted or refused.
 */
import type { RunConfig } from "../src/config/schema.js";
import { workerId, type RunId, type WorkerId } from "../src/protocol/identifiers.js";
import { Numbering } from "../src/protocol/numbering.js";
import {
  PROTOCOL_VERSION,
  type AggregatorAddress,
  type CoordinatorMessage,
  type Hello,
  type Holding,
  type Ready,
} from "../src/protocol/wire.js";

/** One connection of one worker's process. */
export interface Session {
  readonly id: WorkerId;
  readonly peer: string;
  /** 128 random bits by which the worker's process names itself */
  readonly instance: string;
  /** what the worker shows to the aggregator */
  readonly ticket: string;
  readonly incoming: Numbering;
  readonly outgoing: Numbering;
  isAdmitted: boolean;
  /** what it has shown to hold when it was ready */
  holding: Holding | null;
  /** machine and process, as the worker says */
  readonly host: string;
  readonly pid: number;
  /** what it computes on, as it says when it is ready */
  device: string;
  /** when it was last heard of, in ms */
  heardAt: number;
  /** messages of it that had to be dropped */
  strikes: number;
}

export interface Door {
  readonly runId: RunId;
  readonly config: RunConfig;
  readonly softwareVersion: string;
  readonly manifestHash: string;
  /** values that a rank shows in each round of a step; null: as the first worker says, since they follow from its graph */
  readonly rounds: readonly number[] | null;
  /** whether gradients leave shard by shard */
  readonly overlaps: boolean;
  /** a new ticket: 128 random bits as hex */
  readonly newTicket: () => string;
}

/** Rounds of one step, and values that a rank shows in one, at most. */
const [MOST_ROUNDS, MOST_SHOWN] = [4096, 1 << 24];
/** Connections at once; another is refused. */
export const MAX_SESSIONS = 4096;
/** Characters of what a worker calls its machine and its device; more are left out. */
const MOST_NAMED = 200;
/** How a worker's process names itself. */
const INSTANCE = /^[0-9a-f]{32}$/;
/** Processes whose attempts are remembered, the present ones included. */
const MAX_INSTANCES = 4 * MAX_SESSIONS;

export interface Refusal {
  readonly refused: CoordinatorMessage;
  readonly reason: string;
}
export interface Admitted {
  /** both fingerprints, where the engine computes other bits than the run's and may do so */
  readonly differs: string | null;
}

function refusal(code: string, reason: string): Refusal {
  return { refused: { body: "refused", refused: { code, reason } }, reason };
}

export class Membership {
  private readonly byPeer = new Map<string, Session>();
  private readonly byWorker = new Map<WorkerId, Session>();
  /** of each worker process that has said hello: its name in this run, and how many connections it has made */
  private readonly instances = new Map<string, { readonly id: WorkerId; attempt: number }>();
  /** when those instances were lost that may come back, in ms */
  private readonly lost = new Map<string, number>();
  private count = 0;
  /** whether a worker takes or took part whose engine computes other bits */
  isMixed = false;
  private configJson: string | null = null;
  private agreedRounds: readonly number[] | null;

  constructor(
    private readonly door: Door,
    /** fingerprint that every worker must match; null until the first worker sets it */
    private fingerprint: string | null,
    /** where workers find the data planes, from now on */
    public aggregators: readonly AggregatorAddress[] = [],
    /** of the samples plane, for workers that have no data set; null: there is none */
    public samplesPort: number | null = null,
  ) {
    this.agreedRounds = door.rounds;
  }

  /** Values that a rank shows in each round of a step; none while nobody has been ready. */
  get rounds(): readonly number[] {
    return this.agreedRounds ?? [];
  }

  get engineFingerprint(): string | null {
    return this.fingerprint;
  }

  session(peer: string): Session | undefined {
    return this.byPeer.get(peer);
  }

  sessionOf(worker: WorkerId): Session | undefined {
    return this.byWorker.get(worker);
  }

  sessions(): Iterable<Session> {
    return this.byPeer.values();
  }

  /** The connection that a worker's process has now; a new one of it takes its place. */
  sessionOfInstance(instance: string): Session | undefined {
    const known = this.instances.get(instance);
    return known === undefined ? undefined : this.byWorker.get(known.id);
  }

  /** Whether an admitted worker was lost less than `withinMs` ago and has not come back. */
  misses(now: number, withinMs: number): boolean {
    return [...this.lost.values()].some((at) => now - at < withinMs);
  }

  /** @returns null where hello is welcome */
  refusalOf(hello: Hello): Refusal | null {
    const { door } = this;
    if (hello.protocolVersion !== PROTOCOL_VERSION || hello.softwareVersion !== door.softwareVersion) {
      return refusal(
        "WORKER_VERSION",
        `worker version ${String(hello.softwareVersion)} (protocol ${String(hello.protocolVersion)}) does not fit the ` +
          `coordinator's ${door.softwareVersion} (protocol ${String(PROTOCOL_VERSION)}): install the same version on both`,
      );
    }
    const { threads } = door.config.parallel;
    if (hello.threads !== undefined && hello.threads !== 0 && hello.threads !== threads) {
      return refusal(
        "WORKER_THREADS",
        `the worker was started with --threads ${String(hello.threads)}, but the run computes with ` +
          `${String(threads)} (sums depend on it): drop the flag, or set parallel.threads`,
      );
    }
    const instance = hello.instance ?? "";
    if (!INSTANCE.test(instance) || (hello.attempt ?? 0) <= (this.instances.get(instance)?.attempt ?? 0)) {
      return refusal(
        "REPLAYED_HELLO",
        "a hello that has been here before, or names nobody: each connection says its own",
      );
    }
    if (this.byPeer.size >= MAX_SESSIONS && this.sessionOfInstance(instance) === undefined) {
      return refusal("TOO_MANY_WORKERS", `the run has ${String(MAX_SESSIONS)} connections already`);
    }
    return null;
  }

  /** Opens a session for a hello that is welcome; the one before of the same process must be forgotten by now. */
  welcome(peer: string, hello: Hello, now: number): { readonly session: Session; readonly answer: CoordinatorMessage } {
    const { door } = this;
    const instance = hello.instance ?? "";
    const id = this.instances.get(instance)?.id ?? workerId(`worker-${String(++this.count)}`);
    this.rememberInstance(instance, id, hello.attempt ?? 0);
    const session: Session = {
      ...{ id, peer, instance, ticket: door.newTicket(), holding: null },
      ...{ incoming: new Numbering(), outgoing: new Numbering() },
      ...{ host: (hello.host ?? "").slice(0, MOST_NAMED), pid: hello.pid ?? 0, device: "" },
      ...{ isAdmitted: false, heardAt: now, strikes: 0 },
    };
    session.incoming.arrived(1);
    this.lost.delete(instance);
    this.byPeer.set(peer, session);
    this.byWorker.set(id, session);
    this.configJson ??= JSON.stringify(door.config);
    const { runId, overlaps } = door;
    const { ticket } = session;
    const { aggregators, samplesPort } = this;
    const place = { aggregators: [...aggregators], samplesPort: samplesPort ?? 0 };
    const welcome = { runId, workerId: id, configJson: this.configJson, ticket, overlaps, ...place };
    return { session, answer: { body: "welcome", welcome } };
  }

  /** Whether the session is admitted from now on; a refused one is forgotten. */
  ready(session: Session, ready: Ready): Admitted | Refusal {
    const { door } = this;
    const refuse = (code: string, reason: string) => {
      this.forget(session);
      return refusal(code, reason);
    };
    if (ready.manifestHash !== door.manifestHash) {
      return refuse(
        "MANIFEST_MISMATCH",
        `the worker's data set differs from the run's (manifest ${short(ready.manifestHash)}, the run's is ` +
          `${short(door.manifestHash)}): give both the same files with --data`,
      );
    }
    session.device = (ready.device ?? "").slice(0, MOST_NAMED);
    this.fingerprint ??= ready.engineFingerprint ?? "";
    const fits = ready.engineFingerprint === this.fingerprint;
    const both = `fingerprint ${short(ready.engineFingerprint)}, the run's is ${short(this.fingerprint)}`;
    if (!fits && !door.config.membership.allowMixedHardware) {
      return refuse(
        "ENGINE_MISMATCH",
        `the worker's engine computes other bits (${both}): use the same kind of processor and the same engine build, ` +
          "or give up reproducibility with membership.allowMixedHardware",
      );
    }
    const rounds = ready.rounds ?? [];
    this.agreedRounds ??= areSound(rounds) ? rounds : null;
    if (JSON.stringify(rounds) !== JSON.stringify(this.agreedRounds)) {
      return refuse(
        "ROUNDS_MISMATCH",
        `the worker's step has ${String(rounds.length)} rounds in which ranks wait for each other, and not those of the run: ` +
          "use the same build and the same files of the user's own on all machines",
      );
    }
    session.isAdmitted = true;
    if (!fits) this.isMixed = true;
    session.holding = ready.holding ?? null;
    return { differs: fits ? null : both };
  }

  /** It was lost: its process may make another connection. */
  lose(session: Session, now: number): void {
    this.forget(session);
    if (session.isAdmitted) this.lost.set(session.instance, now);
  }

  forget(session: Session): void {
    if (this.byPeer.get(session.peer) === session) this.byPeer.delete(session.peer);
    if (this.byWorker.get(session.id) === session) this.byWorker.delete(session.id);
  }

  /** Connections that have not come through the handshake and are silent for longer than `limitMs`. */
  silent(now: number, limitMs: number): Session[] {
    return [...this.byPeer.values()].filter(({ isAdmitted, heardAt }) => !isAdmitted && now - heardAt > limitMs);
  }

  private rememberInstance(instance: string, id: WorkerId, attempt: number): void {
    // The newest last: the oldest goes when there are too many.
    this.instances.delete(instance);
    this.instances.set(instance, { id, attempt });
    if (this.instances.size <= MAX_INSTANCES) return;
    for (const oldest of this.instances.keys()) {
      this.instances.delete(oldest);
      this.lost.delete(oldest);
      break;
    }
  }
}

function areSound(rounds: readonly number[]): boolean {
  return rounds.length <= MOST_ROUNDS && rounds.every((length) => length > 0 && length <= MOST_SHOWN);
}

function short(hash: string | null | undefined): string {
  return (hash ?? "none").slice(0, 12);
}
