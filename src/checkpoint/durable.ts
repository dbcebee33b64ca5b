/** Writing so that a crash, even of the machine, leaves a thing whole or absent. */
import { createHash } from "node:crypto";
import { open, rename } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Bytes hashed and written at a time: the event loop is never held for longer than this takes to hash (about 4 ms). */
const PIECE_BYTES = 4 * 1024 * 1024;

/**
 * Writes a new file and syncs it.
 * @param parts must stay unwritten until the promise settles
 * @returns hex sha256 of the file
 */
export async function writeSynced(path: string, parts: readonly Uint8Array[]): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "wx");
  try {
    for (const part of parts) {
      for (let start = 0; start < part.byteLength; start += PIECE_BYTES) {
        const piece = part.subarray(start, start + PIECE_BYTES);
        hash.update(piece);
        await writeWhole(file, piece);
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}

/** One write may take fewer bytes than it was given. */
async function writeWhole(file: Awaited<ReturnType<typeof open>>, piece: Uint8Array): Promise<void> {
  for (let rest = piece; rest.byteLength > 0;) {
    const { bytesWritten } = await file.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Renames within one directory, durably. */
export async function renameSynced(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncDirectory(dirname(to));
}

/** Replaces a file, durably. */
export async function replaceFile(path: string, parts: readonly Uint8Array[], unique: string): Promise<void> {
  const temporary = join(dirname(path), `.tmp-${unique}`);
  await writeSynced(temporary, parts);
  await renameSynced(temporary, path);
}

/** Replaces a small text file, durably. */
export async function replaceText(path: string, text: string, unique: string): Promise<void> {
  await replaceFile(path, [Buffer.from(text)], unique);
}
