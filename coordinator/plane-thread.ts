/** Threads of the coordinator that listen: the first thing that one says is where, or why not. */
import { once } from "node:events";
import { Worker, type Transferable } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";

/** What such a thread says first. */
export type FirstReport =
  | { readonly kind: "listening"; readonly endpoint: string }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

/**
 * @param handed said to it at once, and what of it is handed over
 * @returns the thread, and where it listens, with its port
 * @throws UserError with its code, where it cannot listen
 */
export async function startPlaneThread(
  program: URL,
  workerData: unknown,
  handed: { readonly message: unknown; readonly transfer: readonly Transferable[] } | null = null,
): Promise<{ readonly thread: Worker; readonly endpoint: string }> {
  const thread = new Worker(program, { workerData });
  if (handed !== null) thread.postMessage(handed.message, handed.transfer);
  const exited = once(thread, "exit").then(() => null);
  const said = once(thread, "message").then(([report]) => report as FirstReport);
  const first = await Promise.race([said, exited]);
  if (first?.kind === "listening") return { thread, endpoint: first.endpoint };
  await exited;
  if (first === null) throw new Error("a thread that was to listen has ended without a word");
  throw new UserError(first.code, first.message);
}
