/** One download over HTTP that goes on where it was cut off. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rm, stat } from "node:fs/promises";
import { UserError } from "../../protocol/errors.js";
import { unwritable } from "./new-folder.js";

export interface Download {
  readonly url: string;
  /** hex md5 of the whole */
  readonly md5: string;
  /** where it grows; stays there when it is cut off, and is whole and verified in the end */
  readonly path: string;
  readonly signal: AbortSignal;
  /** @param total null where the server does not say */
  readonly onProgress: (bytes: number, total: number | null) => void;
}

/**
 * What lies at `path` already is kept, and the rest asked for (RFC 9110, section 14: `Range`).
 * @throws UserError `FETCH_UNREACHABLE`, `FETCH_REFUSED`, `FETCH_CUT_OFF` (what came stays), `FETCH_BAD_CHECKSUM` (nothing stays),
 * `OUT_UNWRITABLE`
 */
export async function download({ url, md5, path, signal, onProgress }: Download): Promise<void> {
  const kept = await sizeOf(path);
  const response = await request(url, kept, signal);
  // A server that has nothing after what is here: then it is whole, or not the same file.
  if (response.status !== 416) {
    if (!response.ok || response.body === null) {
      throw new UserError(
        "FETCH_REFUSED",
        `${url} answers ${response.status} ${response.statusText}`.trimEnd() + ": try --from",
      );
    }
    const start = response.status === 206 ? startOf(response) : 0;
    if (start !== 0 && start !== kept) {
      throw new UserError(
        "FETCH_REFUSED",
        `${url} answers with other bytes than were asked for: remove "${path}" and try again`,
      );
    }
    await append(path, start, response, response.body, { url, signal, onProgress });
  }
  const found = await md5Of(path);
  if (found !== md5) {
    await rm(path, { force: true });
    throw new UserError(
      "FETCH_BAD_CHECKSUM",
      `what came from ${url} has md5 ${found}, and ${md5} is published: it is removed; try again, or another source with --from`,
    );
  }
}

async function request(url: string, from: number, signal: AbortSignal): Promise<Response> {
  try {
    // Never compressed on the way: what is checked is the archive as it lies on the server.
    const headers = { "accept-encoding": "identity", ...(from > 0 && { range: `bytes=${from}-` }) };
    return await fetch(url, { headers, signal });
  } catch (error) {
    signal.throwIfAborted();
    const cause: unknown = error instanceof Error ? (error.cause ?? error) : error;
    throw new UserError("FETCH_UNREACHABLE", `${url} cannot be reached (${reasonOf(cause)}): try again, or --from`, {
      cause,
    });
  }
}

/** First byte that a partial answer holds; NaN where it does not say. */
function startOf(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]);
}

async function append(
  path: string,
  start: number,
  response: Response,
  body: ReadableStream<Uint8Array>,
  { url, signal, onProgress }: Pick<Download, "url" | "signal" | "onProgress">,
): Promise<void> {
  const length = response.headers.get("content-length");
  // A compressed transfer is longer or shorter than what it holds.
  const isPlain = response.headers.get("content-encoding") === null;
  const total = length === null || !isPlain ? null : start + Number(length);
  let position = start;
  const file = await open(path, start > 0 ? "r+" : "w").catch((error: unknown) => {
    throw unwritable(path, error);
  });
  try {
    for await (const chunk of received(body, () => cutOff(url, position, total), signal)) {
      await file.write(chunk, 0, chunk.length, position).catch((error: unknown) => {
        throw unwritable(path, error);
      });
      position += chunk.length;
      onProgress(position, total);
    }
    await file.truncate(position);
    await file.sync();
  } finally {
    await file.close();
  }
  if (total !== null && position < total) throw cutOff(url, position, total);
}

/** The body's chunks; an error of the connection becomes the one that `cutOff` makes. */
async function* received(
  body: ReadableStream<Uint8Array>,
  cutOff: () => UserError,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        signal.throwIfAborted();
        throw cutOff();
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function cutOff(url: string, position: number, total: number | null): UserError {
  const whole = total === null ? "" : ` of ${total}`;
  return new UserError(
    "FETCH_CUT_OFF",
    `the download of ${url} was cut off after ${position}${whole} bytes: give the same command again to go on from there`,
  );
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

async function md5Of(path: string): Promise<string> {
  const hash = createHash("md5");
  for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array);
  return hash.digest("hex");
}

function reasonOf(cause: unknown): string {
  if (cause instanceof Error && "code" in cause && typeof cause.code === "string") return cause.code;
  return cause instanceof Error ? cause.message : String(cause);
}
