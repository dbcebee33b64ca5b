/**
 * A file of the user's own, loaded and tried out on the CPU for who has no engine: in a process of its own, which is gone afterwards,
 * with the engine's memory and whatever the file has done. The process's end is `serveApart`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { OwnKind } from "../config/own-file.js";
import { UserError } from "../protocol/errors.js";

/** A file that takes longer to load and to try hangs. */
const MOST_MS = 2 * 60_000;

/** What the process says, as JSON on its fourth stream: the file may print what it likes. */
export type Answer<Value> =
  { readonly value: Value } | { readonly error: { readonly code: string; readonly message: string } };

/**
 * @param program module that calls `serveApart`
 * @param path of the file that the question is about
 * @throws UserError `…_LOAD` where the process hangs or ends; and whatever it answers with
 */
export async function askApart<Value>(
  program: URL,
  question: object,
  { kind, path }: { readonly kind: OwnKind; readonly path: string },
): Promise<Value> {
  const child = spawn(process.execPath, [fileURLToPath(program)], { stdio: ["pipe", "ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), MOST_MS);
  const [input, , errors, output] = child.stdio;
  try {
    if (input === null || errors === null || !(output instanceof Readable)) throw new Error("a pipe is missing");
    input.on("error", () => undefined);
    input.end(JSON.stringify(question));
    const [said, complaint] = await Promise.all([text(output), text(errors), once(child, "close")]);
    if (said === "") {
      throw new UserError(`${kind.toUpperCase()}_LOAD`, `the ${kind} ${path} ${died(child.signalCode, complaint)}`);
    }
    const answer = JSON.parse(said) as Answer<Value>;
    if ("value" in answer) return answer.value;
    throw new UserError(answer.error.code, answer.error.message);
  } finally {
    clearTimeout(timer);
  }
}

function died(signal: NodeJS.Signals | null, complaint: string): string {
  const [line = "it said nothing"] = complaint.split("\n").filter((entry) => /error/i.test(entry));
  return signal === "SIGKILL"
    ? `was not loaded within ${String(MOST_MS / 1000)} s: it hangs, or ends its process`
    : `ended the process that loaded it: ${line}`;
}
