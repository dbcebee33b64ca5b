/** Asking a `worker_threads` thread and awaiting its answer: one request, one response, matched by a number. */
import { parentPort, Worker, type Transferable } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";

interface Request {
  readonly id: number;
  readonly body: unknown;
}

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
    this.thread.on("exit", () => {
      this.failAll(new Error("the thread has ended"));
    });
  }

  call<Name extends keyof Calls & string>(name: Name, request: Calls[Name][0]): Promise<Calls[Name][1]> {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.thread.postMessage({ id, body: { name, request } } satisfies Request);
    });
  }

  async close(): Promise<void> {
    await this.thread.terminate();
  }

  private failAll(error: unknown): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

export type Handlers<Calls extends Record<string, readonly [unknown, unknown]>> = {
  readonly [Name in keyof Calls]: (request: Calls[Name][0]) => Calls[Name][1] | Promise<Calls[Name][1]>;
};

/** Thread's side: answers calls, and returns a function that says something unasked. Float vectors are moved, not copied. */
export function serveCalls<Calls extends Record<string, readonly [unknown, unknown]>, Notice = never>(
  handlers: Handlers<Calls>,
): (notice: Notice) => void {
  const port = parentPort;
  if (port === null) throw new Error("serveCalls runs in a thread");
  port.on("message", ({ id, body }: Request) => {
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
