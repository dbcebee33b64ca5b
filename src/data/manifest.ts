/** The manifest hash: what two workers compare to know that they read the same data set, wherever it is mounted. */
import { createHash } from "node:crypto";

/** Version of the text that is hashed; the hash means nothing across versions. */
const MANIFEST_VERSION = 1;

export interface ManifestEntry {
  /** split, class folder and file, relative to the data set's root, with `/` between them */
  readonly name: string;
  /** −1 where the sample has none */
  readonly label: number;
  /** size of the file in bytes */
  readonly bytes: number;
}

/**
 * Hex sha256 of the listing, in manifest order. NUL parts the fields, because no file name contains it.
 * @param kind what the listing is of, e.g. `folder`
 */
export function manifestHash(kind: string, entries: Iterable<ManifestEntry>): string {
  return hashOfLines(kind, linesOf(entries));
}

function* linesOf(entries: Iterable<ManifestEntry>): Generator<string> {
  for (const { name, label, bytes } of entries) yield `${name}\0${label}\0${bytes}`;
}

/**
 * Hex sha256 of a listing whose lines are not names of files.
 * @param kind what the listing is of, e.g. `text`
 * @param lines none of them contains a line break
 */
export function hashOfLines(kind: string, lines: Iterable<string>): string {
  const hash = createHash("sha256").update(`tandem manifest ${MANIFEST_VERSION}\0${kind}\n`);
  let text = "";
  for (const line of lines) {
    text += `${line}\n`;
    if (text.length > HASH_BLOCK) {
      hash.update(text);
      text = "";
    }
  }
  return hash.update(text).digest("hex");
}

/** Characters gathered before they are given to the hash: one call an entry would cost more than the hash. */
const HASH_BLOCK = 1 << 16;
