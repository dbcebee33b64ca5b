/** Making a folder that is there whole or not at all. */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { renameSynced } from "../../checkpoint/durable.js";
import { UserError } from "../../protocol/errors.js";

/**
 * Lets `fill` write into a temporary folder beside `path`, then gives it that name.
 * @param path must not exist, or be an empty folder
 * @throws UserError `OUT_EXISTS`, `OUT_UNWRITABLE`; whatever `fill` throws, with nothing left behind
 */
export async function withNewFolder<T>(path: string, fill: (folder: string) => Promise<T>): Promise<T> {
  const place = resolve(path);
  await refuseExisting(path);
  try {
    const folder = join(dirname(place), `.${basename(place)}-${randomUUID()}`);
    await mkdir(folder, { recursive: true });
    try {
      const result = await fill(folder);
      await renameSynced(folder, place);
      return result;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  } catch (error) {
    throw unwritable(path, error);
  }
}

/** @throws UserError `OUT_EXISTS` where there is something already */
export async function refuseExisting(path: string): Promise<void> {
  const existing = await stat(path).catch(() => null);
  if (existing === null) return;
  if (existing.isDirectory() && (await readdir(path)).length === 0) return;
  throw new UserError("OUT_EXISTS", `"${path}" exists already: name another folder, or remove it first`);
}

/** What the operating system refuses is the user's to mend; other errors stay as they are. */
export function unwritable(path: string, error: unknown): unknown {
  if (error instanceof UserError || !(error instanceof Error && "syscall" in error)) return error;
  return new UserError("OUT_UNWRITABLE", `"${path}" cannot be written: ${error.message}`, { cause: error });
}
