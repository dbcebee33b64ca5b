/** Serves the dashboard: one page with what it needs (no other host is asked for anything), the run as JSON, and what changes as server-sent events. */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { isIPv4 } from "node:net";
import { dirname, join } from "node:path";
import { PACKAGE_ROOT } from "../protocol/version.js";
import { PICTURE_KINDS, serveAt, type AddressFlag, type HttpAddress } from "../telemetry/index.js";
import type { RunView } from "./run-view.js";
import { changingOf, snapshotOf, type Described } from "./snapshot.js";

export interface DashboardOptions {
  readonly address: HttpAddress;
  /** how it was asked for */
  readonly flag: AddressFlag;
  /** whoever shows it may look; null: everybody who reaches the port. One is drawn where the address is not loopback and none is given */
  readonly token: string | null;
  readonly view: RunView;
  /** folder with the latest picture of each kind */
  readonly pictures: string;
  readonly described: Described;
}

export interface Dashboard {
  /** with the token, where there is one */
  readonly url: string;
  /** without it */
  readonly address: string;
  close(): void;
}

/** How often what changes is sent, in ms. */
const EVERY_MS = 1000;
/** Browsers that may look at once; each costs a small message a second. */
const MOST_STREAMS = 64;
/** Bytes that a browser which reads no longer is kept for; it comes again when it does. */
const MOST_BEHIND = 1 << 20;
/** Carries the token. */
export const COOKIE = "tandem-token";

const UPLOT = dirname(createRequire(import.meta.url).resolve("uplot/dist/uPlot.iife.min.js"));
const PAGE = new URL("src/dashboard/page/", PACKAGE_ROOT);
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" }; // prettier-ignore
const FILES: Readonly<Record<string, string | URL>> = {
  "/": new URL("index.html", PAGE),
  "/page.js": new URL("page.js", PAGE),
  "/charts.js": new URL("charts.js", PAGE),
  "/pictures.js": new URL("pictures.js", PAGE),
  "/tables.js": new URL("tables.js", PAGE),
  "/page.css": new URL("page.css", PAGE),
  "/icon.svg": new URL("icon.svg", PAGE),
  "/uplot.js": join(UPLOT, "uPlot.iife.min.js"),
  "/uplot.css": join(UPLOT, "uPlot.min.css"),
};
const HEADERS = {
  "content-security-policy":
    "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
};

/** @throws UserError `PORT_IN_USE`, `ADDRESS_INVALID` */
export async function serveDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { address, flag } = options;
  const token = options.token ?? (isLoopback(address.host) ? null : randomBytes(16).toString("hex"));
  const site = new Site(options, token);
  const server = await serveAt(address, flag, (request, response) => {
    site.answer(request, response);
  });
  const url = `http://${server.address}/`;
  return {
    address: url,
    url: token === null ? url : `${url}?token=${token}`,
    close: () => {
      site.close();
      server.close();
    },
  };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."));
}

class Site {
  private readonly streams = new Set<ServerResponse>();
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly options: DashboardOptions,
    private readonly token: string | null,
  ) {
    this.timer = setInterval(() => {
      if (this.streams.size === 0) return;
      const message = `data: ${JSON.stringify(changingOf(this.options.view))}\n\n`;
      for (const stream of this.streams)
        if (stream.writableLength > MOST_BEHIND) stream.destroy();
        else stream.write(message);
    }, EVERY_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
    for (const stream of this.streams) stream.end();
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    // Not by URL's rules: for them some of what can be asked for is none, and some is of another host.
    const [pathname = "/", query = ""] = (request.url ?? "/").split(/\?(.*)/s);
    const searchParams = new URLSearchParams(query);
    const say = (status: number, text: string, headers: Record<string, string> = {}) => {
      response.writeHead(status, { ...HEADERS, "content-type": "text/plain; charset=utf-8", ...headers });
      response.end(text);
    };
    if (request.method !== "GET") {
      say(405, "the dashboard only shows\n", { allow: "GET" });
      return;
    }
    // A page of somebody else's, whose name has come to mean this machine, is not to read a run.
    if (isLoopback(this.options.address.host) && !isLoopback((request.headers.host ?? "").replace(/:\d+$/, ""))) {
      say(421, "ask for localhost\n");
      return;
    }
    const shown = searchParams.get("token");
    if (this.token !== null && shown !== null && isSame(shown, this.token)) {
      // From then on it is not in the address, where others could read it.
      say(303, "", { location: "/", "set-cookie": `${COOKIE}=${this.token}; HttpOnly; SameSite=Strict; Path=/` });
      return;
    }
    if (this.token !== null && !isSame(cookieOf(request), this.token)) {
      say(401, "this dashboard wants its token: open the address that the coordinator has printed, with ?token=…\n");
      return;
    }
    const file = FILES[pathname];
    const kind = PICTURE_KINDS.find((name) => pathname === `/pictures/${name}.png`);
    const picture = kind === undefined ? null : join(this.options.pictures, `${kind}.png`);
    if (file !== undefined) {
      const type = TYPES[(pathname.split(".")[1] ?? "html") as keyof typeof TYPES];
      say(200, readFileSync(file, "utf8"), { "content-type": type });
    } else if (pathname === "/api/run")
      say(200, JSON.stringify(this.snapshot(searchParams)), { "content-type": "application/json" });
    else if (pathname === "/api/stream") this.stream(response);
    else if (picture !== null && existsSync(picture)) this.picture(picture, request, response);
    else say(404, "there is nothing here\n");
  }

  /** The latest of a kind, whatever step the page asks for it by: a browser that has it already is told so. */
  private picture(path: string, { headers }: IncomingMessage, response: ServerResponse): void {
    const png = readFileSync(path);
    const etag = `"${createHash("sha256").update(png).digest("base64url")}"`;
    const isKnown = headers["if-none-match"] === etag;
    const kept = { "content-type": "image/png", "cache-control": "private, no-cache", etag };
    response.writeHead(isKnown ? 304 : 200, { ...HEADERS, ...kept });
    response.end(isKnown ? undefined : png);
  }

  private stream(response: ServerResponse): void {
    if (this.streams.size >= MOST_STREAMS) {
      response.writeHead(503, { ...HEADERS, "content-type": "text/plain", "retry-after": "10" });
      response.end("too many are looking\n");
      return;
    }
    response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream" });
    response.write(`retry: ${String(EVERY_MS)}\ndata: ${JSON.stringify(changingOf(this.options.view))}\n\n`);
    this.streams.add(response);
    response.on("close", () => this.streams.delete(response));
  }

  private snapshot(has: URLSearchParams): object {
    const { view, described } = this.options;
    const [revision, points] = ["revision", "points"].map((name) => Number(has.get(name) ?? -1));
    return snapshotOf(view, described, { revision, points });
  }
}

function isSame(given: string, token: string): boolean {
  const [one, other] = [Buffer.from(given), Buffer.from(token)];
  return one.length === other.length && timingSafeEqual(one, other);
}

function cookieOf({ headers }: IncomingMessage): string {
  return new RegExp(`(?:^|; )${COOKIE}=([^;]*)`).exec(headers.cookie ?? "")?.[1] ?? "";
}
