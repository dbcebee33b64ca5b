/** Calls to a process of ours. What goes to and fro is copied, so what is large lies in memory that the two share. */
import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { answer, Caller, type CallsShape, type Handlers, type Request, type Response } from "./calls.js";

/** A process that has not ended by itself by then is killed, in ms: a call may take long. */
const CLOSE_MS = 10_000;

/** The side that starts the process. */
export class ProcessClient<Calls extends CallsShape, Notice = never> extends Caller<Calls, Notice> {
  private readonly process: ChildProcess;
  private readonly exited: Promise<void>;

  /** @param gone what to say of a process that ended unasked, with the signal or exit code */
  constructor(module: URL, gone: (how: string) => Error, onNotice?: (notice: Notice) => void) {
    const child = fork(fileURLToPath(module), { serialization: "advanced" });
    super((request) => {
      // Whoever waits hears of the process's end.
      if (child.connected) child.send(request, () => undefined);
    }, onNotice);
    this.process = child;
    child.on("message", (response: Response) => {
      this.heard(response);
    });
    this.exited = new Promise((resolve) => {
      const over = (how: string) => {
        this.failed(gone(how));
        resolve();
      };
      child.on("error", ({ message }) => {
        over(message);
      });
      child.on("close", (code, signal) => {
        over(signal ?? `exit code ${String(code)}`);
      });
    });
  }

  async close(): Promise<void> {
    if (this.process.connected) this.process.send({ id: null } satisfies Request, () => undefined);
    const timer = setTimeout(() => void this.process.kill("SIGKILL"), CLOSE_MS);
    await this.exited;
    clearTimeout(timer);
  }
}

/**
 * The process's side: answers calls, and returns a function that says something unasked. A process whose maker is gone ends at once.
 * @param ending closes what would keep the process
 */
export function serveProcessCalls<Calls extends CallsShape, Notice = never>(
  handlers: Handlers<Calls>,
  ending: () => Promise<void>,
): (notice: Notice) => void {
  const post = (response: Response) => {
    if (process.connected) process.send?.(response, () => undefined);
  };
  const gone = () => process.kill(process.pid, "SIGKILL");
  process.on("disconnect", gone);
  // A terminal sends them to everybody; its maker says what follows of it.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
  process.on("message", (message: Request) => {
    if (message.id !== null) {
      void answer(handlers, message, post);
      return;
    }
    void ending().finally(() => {
      process.off("disconnect", gone);
      process.disconnect();
    });
  });
  return (notice) => {
    post({ id: null, body: notice });
  };
}
