/**
 * The architecture of an encoder of the user's own, for who has no engine: a process of its own loads the file, tries it out on the
 * CPU, and says what it is made of. It is gone afterwards, with the engine's memory and whatever the file has done.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { UserError } from "../../protocol/errors.js";
import type { Architecture, EncoderConfig } from "../architecture.js";

const PROGRAM = fileURLToPath(new URL("./describe-process.js", import.meta.url));
/** A file that takes longer to load and to try hangs. */
const MOST_MS = 2 * 60_000;

/** What the process says, as JSON on its fourth stream: the file may print what it likes. */
export type Description =
  { readonly architecture: Architecture } | { readonly error: { readonly code: string; readonly message: string } };

/** @throws UserError `ENCODER_…` */
export async function describeApart({ model, data: { imageSize, maxLength } }: EncoderConfig): Promise<Architecture> {
  const child = spawn(process.execPath, [PROGRAM], { stdio: ["pipe", "ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), MOST_MS);
  const [input, , errors, output] = child.stdio;
  try {
    if (input === null || errors === null || !(output instanceof Readable)) throw new Error("a pipe is missing");
    input.on("error", () => undefined);
    input.end(JSON.stringify({ model, data: { imageSize, maxLength } }));
    const [said, complaint] = await Promise.all([text(output), text(errors), once(child, "close")]);
    if (said === "") throw new UserError("ENCODER_LOAD", died(model.encoder, child.signalCode, complaint));
    const description = JSON.parse(said) as Description;
    if ("architecture" in description) return description.architecture;
    throw new UserError(description.error.code, description.error.message);
  } finally {
    clearTimeout(timer);
  }
}

function died(path: string, signal: NodeJS.Signals | null, complaint: string): string {
  const [line = "it said nothing"] = complaint.split("\n").filter((entry) => /error/i.test(entry));
  return signal === "SIGKILL"
    ? `the encoder ${path} was not loaded within ${String(MOST_MS / 1000)} s: it hangs, or ends its process`
    : `the encoder ${path} ended the process that loaded it: ${line}`;
}
