/** An encoder, a method or a tokenizer of the user's own: a file, named by its path, and known by its digest. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { UserError } from "../protocol/errors.js";

/** What a file is to be; also how its errors' codes begin, in capitals. */
export type OwnKind = "encoder" | "method" | "tokenizer";

/** Whether a name is that of a file rather than of something built in. */
export function isOwnFile(name: string): boolean {
  return /^\.{0,2}\//.test(name) || /\.(js|mjs|ts)$/.test(name);
}

export interface OwnFile {
  readonly source: string;
  /** hex */
  readonly sha256: string;
}

/** @throws UserError `ENCODER_MISSING`, `METHOD_MISSING`, `TOKENIZER_MISSING` */
export async function readOwnFile(path: string, kind: OwnKind): Promise<OwnFile> {
  try {
    const bytes = await readFile(path);
    return { source: bytes.toString("utf8"), sha256: createHash("sha256").update(bytes).digest("hex") };
  } catch (cause) {
    const { code = "unreadable" } = cause as NodeJS.ErrnoException;
    const message = `cannot read the ${kind} ${path} (${code}): name the file with --${kind}`;
    throw new UserError(`${kind.toUpperCase()}_MISSING`, message, { cause });
  }
}

/**
 * The file that a run began with, wherever this machine has it.
 * @param sha256 hex, of the run's file; null: whatever lies there
 * @throws UserError as `readOwnFile`, and `…_DIFFERS`
 */
export async function readOwnFileOf(path: string, sha256: string | null, kind: OwnKind): Promise<OwnFile> {
  const file = await readOwnFile(path, kind);
  if (sha256 === null || sha256 === file.sha256) return file;
  throw new UserError(
    `${kind.toUpperCase()}_DIFFERS`,
    `the ${kind} ${path} is not the run's: its sha256 is ${file.sha256.slice(0, 12)}…, the run's ${sha256.slice(0, 12)}…; ` +
      "bring the file that the run began with",
  );
}
