/**
 * The door of the control plane: who is connected, how far its handshake is, and whether it may join.
 * Hello → Welcome → (the worker starts its engine and lists its data) → Ready → admitted or refused.
 */
import type { RunConfig } from "../src/config/schema.js";
import { workerId, type RunId, type WorkerId } from "../src/protocol/identifiers.js";
import { PROTOCOL_VERSION, type CoordinatorMessage, type Hello, type Ready } from "../src/protocol/wire.js";

export interface Session {
  readonly id: WorkerId;
  readonly host: string;
  readonly pid: number;
  readonly state: "welcomed" | "admitted";
}

export interface Door {
  readonly runId: RunId;
  readonly config: RunConfig;
  readonly softwareVersion: string;
  readonly dataPort: number;
  readonly manifestHash: string;
}

/** Connections at once; another is refused. */
export const MAX_SESSIONS = 4096;

function refusal(code: string, reason: string): CoordinatorMessage {
  return { body: "refused", refused: { code, reason } };
}

export class Membership {
  private readonly byPeer = new Map<string, Session>();
  private count = 0;

  constructor(
    private readonly door: Door,
    /** fingerprint that every worker must match; null until the first worker sets it */
    private fingerprint: string | null,
  ) {}

  get engineFingerprint(): string | null {
    return this.fingerprint;
  }

  session(peer: string): Session | undefined {
    return this.byPeer.get(peer);
  }

  peerOf(worker: WorkerId): string | undefined {
    return [...this.byPeer].find(([, session]) => session.id === worker)?.[0];
  }

  admitted(): Session[] {
    return [...this.byPeer.values()].filter(({ state }) => state === "admitted");
  }

  peers(): string[] {
    return [...this.byPeer.keys()];
  }

  /** @returns the answer: Welcome, or Refused with the remedy */
  hello(peer: string, hello: Hello): CoordinatorMessage {
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
    if (this.byPeer.size >= MAX_SESSIONS) {
      return refusal("TOO_MANY_WORKERS", `the run has ${String(MAX_SESSIONS)} connections already`);
    }
    const id = workerId(`worker-${String(++this.count)}`);
    this.byPeer.set(peer, { id, host: hello.host ?? "", pid: hello.pid ?? 0, state: "welcomed" });
    return {
      body: "welcome",
      welcome: { runId: door.runId, workerId: id, configJson: JSON.stringify(door.config), dataPort: door.dataPort },
    };
  }

  /** @returns the session now admitted, or the refusal to send */
  ready(peer: string, ready: Ready): { readonly admitted: Session } | { readonly refused: CoordinatorMessage } {
    const session = this.byPeer.get(peer);
    if (session === undefined) return { refused: refusal("NO_HELLO", "a worker says hello before it is ready") };
    const refuse = (code: string, reason: string) => {
      this.byPeer.delete(peer);
      return { refused: refusal(code, reason) };
    };
    if (ready.manifestHash !== this.door.manifestHash) {
      return refuse(
        "MANIFEST_MISMATCH",
        `the worker's data set differs from the run's (manifest ${short(ready.manifestHash)}, the run's is ` +
          `${short(this.door.manifestHash)}): give both the same files with --data`,
      );
    }
    this.fingerprint ??= ready.engineFingerprint ?? "";
    if (ready.engineFingerprint !== this.fingerprint) {
      return refuse(
        "ENGINE_MISMATCH",
        `the worker's engine computes other bits (fingerprint ${short(ready.engineFingerprint)}, the run's is ` +
          `${short(this.fingerprint)}): use the same kind of processor and the same engine build`,
      );
    }
    const admitted: Session = { ...session, state: "admitted" };
    this.byPeer.set(peer, admitted);
    return { admitted };
  }

  forget(peer: string): void {
    this.byPeer.delete(peer);
  }
}

function short(hash: string | null | undefined): string {
  return (hash ?? "none").slice(0, 12);
}
