/** Asking a `worker_threads` thread and awaiting its answer: one request, one response, matched by a number. */
import { parentPort, Worker, type Transferable } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";

type Request =
  | { readonly id: number; readonly body: unknown }
  /** the last one: the thread ends */
  | { readonly id: null };

/** A thread that has not ended by itself by then is stopped, in ms: a call may take long. */
const CLOSE_MS = 5_000;

type Response =
  | { readonly id: number; readonly ok: true; readonly body: unknown }
  | { readonly id: number; readonly ok: false; readonly error: ThrownError }
  /** said without being asked */
  | { readonly id: null; readonly body: unknown };

/** An error on its way between threads: structured cloning would forget its class and code. */
interface ThrownError {
  readonly code: string | null;
  readonly message: string;
  readonly stack: string | undefined;
}

function pack(error: unknown): ThrownError {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { code: error instanceof UserError ? error.code : null, message, stack };
}

function unpack({ code, message, stack }: ThrownError): Error {
  const error = code === null ? new Error(message) : new UserError(code, message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** Main thread's side. `Calls` maps each request to its answer: `{ name: [request, response] }`. */
export class ThreadClient<Calls extends Record<string, readonly [unknown, unknown]>, Notice = never> {
  private readonly thread: Worker;
  private readonly waiting = new Map<number, { resolve: (body: never) => void; reject: (error: unknown) => void }>();
  private readonly exited: Promise<void>;
  private count = 0;

  constructor(module: URL, onNotice?: (notice: Notice) => void) {
    this.thread = new Worker(module);
    this.thread.on("message", (response: Response) => {
      if (response.id === null) {
        onNotice?.(response.body as Notice);
        return;
      }
      const caller = this.waiting.get(response.id);
      this.waiting.delete(response.id);
      if (response.ok) caller?.resolve(response.body as never);
      else caller?.reject(unpack(response.error));
    });
    this.thread.on("error", (error) => {
      this.failAll(error);
    });
    this.exited = new Promise((resolve) => {
      this.thread.on("exit", () => {
        this.failAll(new Error("the thread has ended"));
        resolve();
      });
    });
  }

  call<Name extends keyof Calls & string>(name: Name, request: Calls[Name][0]): Promise<Calls[Name][1]> {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.thread.postMessage({ id, body: { name, request } } satisfies Request);
    });
  }

  /** The thread ends by itself, between two calls: one that is stopped while it loads a native library takes the process along. */
  async close(): Promise<void> {
    this.thread.postMessage({ id: null } satisfies Request);
    const timer = setTimeout(() => void this.thread.terminate(), CLOSE_MS);
    await this.exited;
    clearTimeout(timer);
  }

  private failAll(error: unknown): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

export type Handlers<Calls extends Record<string, readonly [unknown, unknown]>> = {
  readonly [Name in keyof Calls]: (request: Calls[Name][0]) => Calls[Name][1] | Promise<Calls[Name][1]>;
};

/**
 * Thread's side: answers calls, and returns a function that says something unasked. Float vectors are moved, not copied.
 * @param ending closes what would keep the thread; null: nothing would, and the thread ends at once
 */
export function serveCalls<Calls extends Record<string, readonly [unknown, unknown]>, Notice = never>(
  handlers: Handlers<Calls>,
  ending: (() => Promise<void>) | null = null,
): (notice: Notice) => void {
  const port = parentPort;
  if (port === null) throw new Error("serveCalls runs in a thread");
  port.on("message", (message: Request) => {
    // In a thread this ends the thread.
    if (message.id === null) {
      if (ending === null) process.exit();
      // A thread that has had a socket ends where nothing is left to do, and not before: ZeroMQ's binding takes the process along.
      void ending().finally(() => {
        port.close();
      });
      return;
    }
    const { id, body } = message;
    const { name, request } = body as { name: keyof Calls; request: never };
    void (async () => {
      try {
        const answer: unknown = await handlers[name](request);
        port.postMessage({ id, ok: true, body: answer } satisfies Response, movable(answer));
      } catch (error) {
        port.postMessage({ id, ok: false, error: pack(error) } satisfies Response);
      }
    })();
  });
  return (notice) => {
    port.postMessage({ id: null, body: notice } satisfies Response);
  };
}

/** Unshared buffers of the typed arrays found in an answer, at most four levels deep. */
function movable(value: unknown, depth = 4): Transferable[] {
  if (ArrayBuffer.isView(value)) {
    const whole = value.byteLength === value.buffer.byteLength;
    return value.buffer instanceof ArrayBuffer && whole ? [value.buffer] : [];
  }
  if (depth === 0 || typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap((entry) => movable(entry, depth - 1));
}
