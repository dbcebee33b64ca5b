/** An aggregator as a process of its own: one connection to the coordinator after another, and a thread with the shard behind each. */
import { createSocket } from "node:dgram";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { retryAfter } from "../src/protocol/backoff.js";
import { UserError } from "../src/protocol/errors.js";
import { Numbering } from "../src/protocol/numbering.js";
import type { Health } from "../src/telemetry/index.js";
import { SOFTWARE_VERSION } from "../src/protocol/version.js";
import {
  orderCodec,
  PROTOCOL_VERSION,
  reportCodec,
  type Begin,
  type OrderMessage,
  type ReportMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { addressOf, DealerSocket, nextPort, openGuard, type ClientKeys } from "../src/transport/index.js";
import { begunBy, commandOf, framesOf, reportMessageOf } from "./aggregation-wire.js";
import { ORDER_INVALID } from "./data-plane.js";
import { EmbeddedAggregator } from "./embedded-aggregator.js";

export interface AggregatorProcessOptions {
  /** the coordinator's control plane, `tcp://HOST:PORT`; the aggregation plane is its next port */
  readonly connect: string;
  /** null: the run uses none */
  readonly keys: ClientKeys | null;
  /** where workers' data connections are taken, `tcp://ADDRESS:PORT`; see `ownEndpoint` */
  readonly listen: string;
  /** name or address by which workers reach it; null: the address of `listen` */
  readonly advertise: string | null;
  /** how long a coordinator may be away before the process gives up, in ms */
  readonly patienceMs: number;
  /** how long the coordinator may take to store the state when the process was asked to leave, in ms */
  readonly graceMs: number;
  readonly signal: AbortSignal;
  /** is told at every turn of the loop */
  readonly health?: Health | undefined;
  readonly log: (message: string) => void;
}

/** How often either side is to be heard of before the coordinator has said so, and how long nothing may be heard, in ms. */
const IDLE = { heartbeatMs: 1000, deadAfterMs: 5000 };

/** How a connection has ended. */
interface End {
  readonly kind: "over" | "left" | "lost";
  readonly reason: string;
}

/**
 * Serves one run until the coordinator ends it or `signal` aborts, through any number of connections.
 * @returns whether it has left a run that goes on
 * @throws UserError `NO_COORDINATOR`, `AGGREGATOR_VERSION`, `PORT_IN_USE`, `ENDPOINT_INVALID`
 */
export async function runAggregator(options: AggregatorProcessOptions): Promise<boolean> {
  const { connect, patienceMs, signal, log } = options;
  log(`looking for the coordinator at ${connect}`);
  let heardAt = performance.now();
  for (let failures = 0; !signal.aborted; failures++) {
    const link = new Link(options);
    const end = await link.serve();
    log(end.reason);
    if (end.kind !== "lost") return end.kind === "left";
    if (link.heardAt !== null) [heardAt, failures] = [link.heardAt, 0];
    const away = performance.now() - heardAt;
    if (away > patienceMs) {
      const seconds = String(Math.round(away / 1000));
      throw new UserError(
        "NO_COORDINATOR",
        `no coordinator has answered at ${connect} for ${seconds} s (${end.reason}): start it with --aggregators, or check the address and --keys`,
      );
    }
    await sleep(retryAfter(failures, Math.random()), undefined, { signal }).catch(() => undefined);
  }
  return true;
}

/** One connection. */
class Link {
  /** when the coordinator was last heard of; null: not by this connection */
  heardAt: number | null = null;
  private readonly socket: DealerSocket<OrderMessage, ReportMessage>;
  private readonly incoming = new Numbering();
  private readonly outgoing = new Numbering();
  private readonly began = performance.now();
  private terms = IDLE;
  private aggregator: EmbeddedAggregator | null = null;
  private closeGuard: () => void = () => undefined;
  private hasBegun = false;
  /** the thread's start; orders come after it */
  private starting: Promise<void> = Promise.resolve();
  private settle: { resolve: (end: End) => void; reject: (error: unknown) => void } | null = null;

  constructor(private readonly options: AggregatorProcessOptions) {
    this.socket = new DealerSocket(orderCodec, reportCodec, {
      keys: options.keys,
      misread: (error) => {
        this.lose(error.message);
      },
      closed: (reason) => {
        this.lose(reason);
      },
    });
  }

  async serve(): Promise<End> {
    const { signal, graceMs } = this.options;
    const ended = new Promise<End>((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    const leave = () => {
      this.say({ body: "leaving", leaving: {} });
      const isIdle = this.aggregator === null;
      setTimeout(() => this.settle?.resolve({ kind: "left", reason: "asked to stop" }), isIdle ? 0 : graceMs).unref();
    };
    let timer: NodeJS.Timeout | null = null;
    const beat = () => {
      this.tick();
      timer = setTimeout(beat, this.terms.heartbeatMs);
    };
    try {
      this.socket.connect(nextPort(this.options.connect));
      this.say({
        body: "hello",
        hello: {
          protocolVersion: PROTOCOL_VERSION,
          softwareVersion: SOFTWARE_VERSION,
          host: hostname(),
          pid: process.pid,
          publicKey: this.options.keys?.publicKey ?? "",
        },
      });
      this.listen().catch((error: unknown) => this.settle?.reject(error));
      beat();
      if (signal.aborted) leave();
      else signal.addEventListener("abort", leave, { once: true });
      return await ended;
    } finally {
      if (timer !== null) clearTimeout(timer);
      signal.removeEventListener("abort", leave);
      this.socket.close();
      await this.starting;
      await this.aggregator?.close();
      this.closeGuard();
    }
  }

  private say(report: ReportMessage, frames: readonly Uint8Array[] = []): void {
    this.socket.post({ ...report, number: this.outgoing.next() }, frames);
  }

  private lose(reason: string): void {
    this.settle?.resolve({ kind: "lost", reason: `connection lost: ${reason}` });
  }

  private tick(): void {
    const silence = performance.now() - (this.heardAt ?? this.began);
    const hint = this.heardAt === null ? "; does it run with --aggregators?" : "";
    if (silence > this.terms.deadAfterMs)
      this.lose(`the coordinator has been silent for ${String(Math.round(silence))} ms${hint}`);
    this.say({ body: "alive", alive: {} });
    this.aggregator?.command({ kind: "tick" });
    this.options.health?.turned(this.aggregator === null ? "waiting for a shard of a run" : null);
  }

  private async listen(): Promise<void> {
    await this.socket.listen((message, frames) => {
      // Whoever is not known there is told so by no number of this connection's.
      if (message.body === "dropped") this.lose(message.dropped.reason ?? "the coordinator has dropped it");
      const arrival = this.incoming.arrived(message.number);
      if (arrival === "gap") this.lose("an order is missing");
      if (arrival !== "due") return;
      this.heardAt = performance.now();
      this.hear(message, frames);
    });
  }

  private hear(order: OrderMessage, frames: readonly Uint8Array[]): void {
    if (order.body === "begin") {
      if (this.hasBegun) {
        this.lose("a shard was begun twice");
        return;
      }
      this.hasBegun = true;
      this.starting = this.begin(order.begin, frames).catch((error: unknown) => {
        if (error instanceof WireError) this.lose(error.message);
        else this.fail(error);
      });
    } else if (order.body === "refused") {
      const { code, reason } = order.refused;
      this.settle?.reject(new UserError(code ?? "REFUSED", `the coordinator refused: ${reason ?? ""}`));
    } else if (order.body === "finished") {
      this.settle?.resolve({ kind: "over", reason: order.finished.reason ?? "finished" });
    } else {
      const command = commandOf(order);
      if (command !== null) void this.starting.then(() => this.aggregator?.command(command));
    }
  }

  private async begin(begin: Begin, frames: readonly Uint8Array[]): Promise<void> {
    const { state, allowed, runId, options, wire, deadAfterMs, heartbeatMs } = begunBy(begin, frames);
    const { keys, listen, advertise, log } = this.options;
    if ((keys === null) !== (allowed === null)) throw new WireError("only one of coordinator and aggregator uses keys");
    const guarded =
      keys === null || allowed === null
        ? null
        : await openGuard({ ...keys, workers: Object.fromEntries(allowed.map((key) => [key, key])) }, (reason) => {
            this.say({ body: "dropped", dropped: { reason } });
          });
    if (guarded !== null) this.closeGuard = guarded.close;
    const data = { options, wire, runId, endpoint: listen, deadAfterMs, guard: guarded?.guard ?? null };
    const aggregator = await EmbeddedAggregator.start(data, state);
    aggregator.listen({
      reported: (report) => {
        this.say(reportMessageOf(report), report.kind === "captured" ? framesOf(report.state) : []);
      },
      failed: (error) => {
        if (error instanceof UserError && error.code === ORDER_INVALID) this.lose(error.message);
        else this.fail(error);
      },
      gone: () => undefined,
      leaving: () => undefined,
    });
    this.aggregator = aggregator;
    this.terms = { heartbeatMs, deadAfterMs: Math.max(deadAfterMs, IDLE.heartbeatMs) };
    const { host, port } = addressOf(aggregator.endpoint);
    log(`aggregates ${String(options.layout.parameterCount)} parameters of ${runId} at ${aggregator.endpoint}`);
    this.say({ body: "listening", listening: { host: advertise ?? host, port } });
  }

  /** Of no use to anybody: a port that is taken, or memory that does not reach. */
  private fail(error: unknown): void {
    const { code, message } = error as { code?: unknown; message: string };
    this.say({ body: "failed", failed: { code: typeof code === "string" ? code : "AGGREGATOR_FAILED", message } });
    // It should be heard of before the connection is closed.
    void this.socket.drained().then(() => this.settle?.reject(error));
  }
}

/** How often a name that is not known is asked for again, in ms. */
const AGAIN_MS = 500;

/**
 * The address of this machine from which packets to an endpoint leave, with a free port: others may well reach it there.
 * @param patienceMs for which the endpoint's name may not be known yet
 * @param waiting hears again and again that it is not
 * @returns null where `signal` was aborted
 * @throws UserError `ENDPOINT_INVALID` where there is no way to it by then
 */
export async function ownEndpoint(
  connect: string,
  { patienceMs, signal, waiting }: { patienceMs: number; signal: AbortSignal; waiting: (reason: string) => void },
): Promise<string | null> {
  const until = performance.now() + patienceMs;
  for (;;) {
    if (signal.aborted) return null;
    try {
      return await addressTowards(connect);
    } catch (error) {
      if (performance.now() >= until) throw error;
      waiting((error as Error).message);
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}

async function addressTowards(connect: string): Promise<string> {
  const { host, port } = addressOf(connect);
  const bare = host.replace(/^\[|\]$/g, "");
  const socket = createSocket(bare.includes(":") ? "udp6" : "udp4");
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      // Nothing is sent: it only has the system choose a route.
      socket.connect(port, bare, (error?: Error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
    const { address, family } = socket.address();
    return `tcp://${family === "IPv6" ? `[${address}]` : address}:*`;
  } catch (cause) {
    throw new UserError(
      "ENDPOINT_INVALID",
      `there is no way to ${connect} (${(cause as Error).message}): check the address, or give --listen with this machine's`,
      { cause },
    );
  } finally {
    socket.close();
  }
}
