/** The shell around the server: its socket, its timer, its threads. */
import { once } from "node:events";
import { clearInterval, setInterval } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { sha256OfFloats } from "../src/protocol/digest.js";
import { coordinatorCodec, workerCodec, type CoordinatorMessage, type WorkerMessage } from "../src/protocol/wire.js";
import type { CheckpointMeta } from "../src/checkpoint/index.js";
import { RouterSocket, type Guard } from "../src/transport/index.js";
import type { CheckpointReport, CheckpointRequest, CheckpointThreadData } from "./checkpoint-thread.js";
import type { TrainingState } from "./aggregator.js";
import { Aggregators, type AggregationOptions, type AggregatorHandle } from "./aggregators.js";
import type { OpenEvaluation } from "./evaluation.js";
import type { End } from "./run-state.js";
import { Server, type ServerParts, type ServerPorts } from "./server.js";

export interface ControlPlaneOptions {
  readonly parts: ServerParts;
  readonly aggregation: AggregationOptions;
  /** one a shard */
  readonly aggregators: readonly AggregatorHandle[];
  readonly checkpoints: CheckpointThreadData;
  /** of a checkpoint that is taken now */
  readonly describe: (knn: number | null) => CheckpointMeta;
  readonly heartbeatMs: number;
  /** whether a supervisor starts it again where it is stopped, so that workers are to wait */
  readonly comesBack: boolean;
  readonly observer: ServerPorts["observer"];
  readonly openEvaluation: ServerPorts["openEvaluation"];
  readonly countCorrupt: ServerPorts["countCorrupt"];
}

/** The control plane's socket, bound before there is a server to hear it. */
export class ControlSocket {
  private server: Server | null = null;
  private failed: (error: unknown) => void = () => undefined;
  private isListening = false;
  private farewell: CoordinatorMessage = { body: "dropped", dropped: { reason: "not ready yet" }, number: 1 };
  private readonly socket: RouterSocket<WorkerMessage, CoordinatorMessage>;

  constructor(guard: Guard | null) {
    this.socket = new RouterSocket(workerCodec, coordinatorCodec, {
      guard,
      misread: (peer, error) => this.server?.misread(peer, error),
      refused: (reason) => this.server?.refused(reason),
      // Whoever is gone shows when it is spoken to.
      disconnected: () => this.server?.ping(),
    });
  }

  /** @throws UserError as `RouterSocket.bind` */
  bind(endpoint: string): Promise<string> {
    return this.socket.bind(endpoint);
  }

  send(peer: string, message: CoordinatorMessage, frames: readonly Uint8Array[]): void {
    this.socket.post(peer, message, frames, () => this.server?.unreachable(peer));
  }

  /** Somebody without a key that is known knocked at one of the planes. */
  refused(reason: string): void {
    this.server?.refused(reason);
  }

  /** @param failed hears what goes wrong beyond a message */
  attach(server: Server, failed: (error: unknown) => void): void {
    this.server = server;
    this.failed = failed;
    this.begin();
  }

  private begin(): void {
    if (this.isListening) return;
    this.isListening = true;
    this.listen().catch((error: unknown) => {
      this.failed(error);
    });
  }

  /** Whoever speaks from now on is heard by the next server, or turned away. */
  detach(): void {
    this.server = null;
  }

  /** Until a server is attached, whoever says hello is told this: come again, or, where the run is `over`, go. */
  turnAway(reason: string, over = false): void {
    this.farewell = over
      ? { body: "finished", finished: { reason }, number: 1 }
      : { body: "dropped", dropped: { reason }, number: 1 };
    this.begin();
  }

  /** when somebody was turned away last, on the clock of `performance.now`; null: nobody yet */
  turnedAwayAt: number | null = null;

  private async listen(): Promise<void> {
    await this.socket.listen((peer, message, frames) => {
      if (this.server !== null) this.server.received(peer, message, frames);
      else if (message.body === "hello") {
        this.turnedAwayAt = performance.now();
        this.socket.post(peer, this.farewell, [], () => undefined);
      }
    });
  }

  close(): void {
    this.socket.close();
  }
}

export interface Served {
  /** null: an aggregator is gone, and the run goes on from its last checkpoint */
  readonly end: End | null;
  /** why, where the run has not ended; otherwise of no meaning */
  readonly reason: string;
  /** updates made */
  readonly step: number;
  /** directory of the last checkpoint written; null: none */
  readonly checkpoint: string | null;
}

export interface RunSignals {
  /** asks for a checkpoint and an orderly end */
  readonly stop: AbortSignal;
  /** the run is another coordinator's by now: nothing more is said or written, and the workers will find that one */
  readonly lost: AbortSignal;
}

/** How long those whose connection is down may take to come and hear that the run is over, in ms. */
const FAREWELL_MS = 4000;
const LOOK_EVERY_MS = 50;

/** Serves until the run ends. Whatever fails in here, or aborts `lost`, is thrown. */
export async function serveRun(
  socket: ControlSocket,
  options: ControlPlaneOptions,
  signals: RunSignals,
): Promise<Served> {
  const { parts, observer } = options;
  const settle: { resolve: (served: Served) => void; reject: (error: unknown) => void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };
  const ended = new Promise<Served>((resolve, reject) => {
    Object.assign(settle, { resolve, reject });
  });
  const guarded =
    <Arguments extends unknown[]>(work: (...given: Arguments) => void) =>
    (...given: Arguments) => {
      try {
        work(...given);
      } catch (error) {
        settle.reject(error);
      }
    };
  const writer = new Worker(new URL("./checkpoint-thread.js", import.meta.url), { workerData: options.checkpoints });
  let lastCheckpoint: string | null = null;
  let leaving: string | null = null;
  let isWriting = false;
  const captures: ((state: TrainingState) => void)[] = [];
  const checkpoint = async (step: number, meta: CheckpointMeta, queueKeys: Float32Array) => {
    const state = await new Promise<TrainingState>((resolve) => {
      captures.push(resolve);
      aggregators.command({ kind: "capture" });
    });
    if (state.version !== step)
      throw new Error(`a checkpoint of step ${String(step)} met the state of ${String(state.version)}`);
    isWriting = true;
    writer.postMessage({ meta, state, queueKeys } satisfies CheckpointRequest);
  };
  const classify = async (evaluation: OpenEvaluation) => {
    server.classified(evaluation.step, await evaluation.classify());
  };
  const server: Server = new Server(parts, {
    now: () => performance.now(),
    send: (peer, message, frames) => {
      socket.send(peer, message, frames);
    },
    command: (command) => {
      aggregators.command(command);
    },
    openEvaluation: options.openEvaluation,
    classify: (evaluation) => {
      classify(evaluation).catch(settle.reject);
    },
    checkpoint: (step, knn) => {
      // Queue and state are taken now, before the next update can begin.
      checkpoint(step, options.describe(knn), parts.queue.keys.slice()).catch(settle.reject);
    },
    digest: (values) => sha256OfFloats(values),
    countCorrupt: options.countCorrupt,
    ended: (end) => {
      const goesOn = leaving !== null && end.outcome === "stopped" && !signals.stop.aborted;
      settle.resolve({
        end: goesOn ? null : end,
        reason: leaving ?? "",
        step: server.step,
        checkpoint: lastCheckpoint,
      });
    },
    observer,
  });
  // One of them may be gone by now.
  const aggregators = new Aggregators(options.aggregation, options.aggregators, {
    reported: guarded((report) => {
      if (report.kind === "captured") captures.shift()?.(report.state);
      else server.reported(report);
    }),
    failed: settle.reject,
    gone: (reason) => {
      settle.resolve({ end: null, reason, step: server.step, checkpoint: lastCheckpoint });
    },
    // Nothing is lost where there is time for a checkpoint.
    leaving: (reason) => {
      leaving ??= reason;
      server.stop();
    },
  });
  writer.on(
    "message",
    guarded((report: CheckpointReport) => {
      isWriting = false;
      aggregators.command({ kind: "release", version: report.step });
      if (report.kind === "written") lastCheckpoint = report.directory;
      if (report.kind === "written") server.checkpointWritten(report.step, report.directory, report.histograms);
      else server.checkpointFailed(report.step, report.reason);
    }),
  );
  writer.on("error", settle.reject);
  const tick = guarded(() => {
    aggregators.command({ kind: "tick" });
    server.tick();
  });
  const stop = guarded(() => {
    server.stop();
  });
  const timer = setInterval(tick, options.heartbeatMs);
  socket.attach(server, settle.reject);
  const lose = () => {
    settle.reject(signals.lost.reason);
  };
  on(signals.stop, stop);
  on(signals.lost, lose);
  let outcome: string | null = "failed";
  try {
    const served = await ended;
    if (served.end === null) {
      server.dropAll(`the run goes on from its last checkpoint: ${served.reason}`);
      outcome = null;
      // The next life begins with what is on disk.
      if (isWriting) await once(writer, "message");
    } else outcome = served.end.outcome;
    return served;
  } finally {
    clearInterval(timer);
    signals.stop.removeEventListener("abort", stop);
    signals.lost.removeEventListener("abort", lose);
    if (outcome === "stopped" && options.comesBack) server.dropAll("the coordinator is stopped, and started again");
    else if (!signals.lost.aborted && outcome !== null) await sayFarewell(server, `the run has ${outcome}`);
    socket.detach();
    await writer.terminate();
  }
}

/** Tells those who are here at once, and those who come back in a while. */
async function sayFarewell(server: Server, reason: string): Promise<void> {
  server.farewell(reason);
  const until = performance.now() + FAREWELL_MS;
  while (server.misses && performance.now() < until) await sleep(LOOK_EVERY_MS);
}

function on(signal: AbortSignal, listener: () => void): void {
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
}
