/** Calls to a `worker_threads` thread. */
import { parentPort, Worker, type Transferable } from "node:worker_threads";
import { answer, Caller, type CallsShape, type Handlers, type Request, type Response } from "./calls.js";

/** A thread that has not ended by itself by then is stopped, in ms: a call may take long. */
const CLOSE_MS = 5_000;

/** Main thread's side. */
export class ThreadClient<Calls extends CallsShape, Notice = never> extends Caller<Calls, Notice> {
  private readonly thread: Worker;
  private readonly exited: Promise<void>;

  constructor(module: URL, onNotice?: (notice: Notice) => void) {
    const thread = new Worker(module);
    super((request) => {
      thread.postMessage(request);
    }, onNotice);
    this.thread = thread;
    thread.on("message", (response: Response) => {
      this.heard(response);
    });
    thread.on("error", (error: Error) => {
      this.failed(error);
    });
    this.exited = new Promise((resolve) => {
      thread.on("exit", () => {
        this.failed(new Error("the thread has ended"));
        resolve();
      });
    });
  }

  /** The thread ends by itself, between two calls: one that is stopped while it loads a native library takes the process along. */
  async close(): Promise<void> {
    this.thread.postMessage({ id: null } satisfies Request);
    const timer = setTimeout(() => void this.thread.terminate(), CLOSE_MS);
    await this.exited;
    clearTimeout(timer);
  }
}

/**
 * Thread's side: answers calls, and returns a function that says something unasked. Float vectors are moved, not copied.
 * @param ending closes what would keep the thread; null: nothing would, and the thread ends at once
 */
export function serveCalls<Calls extends CallsShape, Notice = never>(
  handlers: Handlers<Calls>,
  ending: (() => Promise<void>) | null = null,
): (notice: Notice) => void {
  const port = parentPort;
  if (port === null) throw new Error("serveCalls runs in a thread");
  port.on("message", (message: Request) => {
    if (message.id !== null) {
      void answer(handlers, message, (response) => {
        port.postMessage(response, "body" in response ? movable(response.body) : []);
      });
      return;
    }
    // In a thread this ends the thread.
    if (ending === null) process.exit();
    // A thread that has had a socket ends where nothing is left to do, and not before: ZeroMQ's binding takes the process along.
    void ending().finally(() => {
      port.close();
    });
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
