/**
 * Answers to a supervisor over HTTP: `/livez`, whether the process's heartbeat loop turns, and `/readyz`, whether it does what it is there for.
 * 200 with `ok`, or 503 with the reason in one line, as Kubernetes' probes and its own components have it. `/metrics` is for Prometheus.
 */
import { httpAddress, serveAt, type HttpServer } from "./http-address.js";
import type { Metrics } from "./metrics.js";

/** A loop that has not turned for so long hangs, in ms: longer than any pause of a garbage collector, or a checkpoint. */
const HANGS_AFTER_MS = 30_000;

/** What is known of a process's health. */
export class Health {
  private turnedAt: number;

  /** @param waitsFor what is not there yet that it needs; null: nothing, it is ready */
  constructor(
    private readonly now: () => number = () => performance.now(),
    private waitsFor: string | null = "starting",
  ) {
    this.turnedAt = now();
  }

  /** The loop has turned. @param waitsFor as of the constructor */
  turned(waitsFor: string | null): void {
    this.turnedAt = this.now();
    this.waitsFor = waitsFor;
  }

  /** @returns why it is not live; null: it is */
  get hangs(): string | null {
    const silence = this.now() - this.turnedAt;
    return silence > HANGS_AFTER_MS ? `the heartbeat loop has not turned for ${(silence / 1000).toFixed(0)} s` : null;
  }

  /** @returns why it is not ready; null: it is */
  get isMissing(): string | null {
    return this.hangs ?? this.waitsFor;
  }
}

const FLAG = { name: "--health", example: "0.0.0.0:8080" };

/**
 * @param address `HOST:PORT`; port 0: a free one
 * @throws UserError `ADDRESS_INVALID`, `PORT_IN_USE`
 */
export async function serveHealth(address: string, health: Health, metrics: Metrics): Promise<HttpServer> {
  const at = httpAddress(address, FLAG);
  return serveAt(at, FLAG, ({ method, url, headers }, response) => {
    const say = (status: number, text: string, type = "text/plain") => {
      response.writeHead(status, { "content-type": type });
      response.end(text);
    };
    const sayWhy = (reason: string | null) => {
      say(reason === null ? 200 : 503, `${reason ?? "ok"}\n`);
    };
    const path = method === "GET" ? url : undefined;
    if (path === "/livez") sayWhy(health.hangs);
    else if (path === "/readyz") sayWhy(health.isMissing);
    else if (path === "/metrics")
      metrics.answer(headers.accept ?? "").then(
        ({ contentType, text }) => {
          say(200, text, contentType);
        },
        (error: unknown) => {
          say(500, `${String(error)}\n`);
        },
      );
    else say(404, "there are /livez, /readyz and /metrics\n");
  });
}
