/** Files that a command writes for the user: whole, or not there. */
import { randomBytes } from "node:crypto";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../protocol/errors.js";

/**
 * Writes under a temporary name beside `path` and renames; a file that was there is replaced.
 * @param write gets the temporary path, which it makes: a file or a folder
 * @throws UserError `OUTPUT` where the system refuses, or `path` is a folder and no folder is to be written
 */
export async function writeOutput(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString("hex")}.tmp`);
  try {
    await mkdir(dirname(path), { recursive: true });
    await write(temporary);
    await rename(temporary, path);
  } catch (cause) {
    // Errors of the system carry its number: a full disk, a folder of that name.
    if (!(cause instanceof Error && "errno" in cause)) throw cause;
    const isFolder = await stat(path).then((found) => found.isDirectory(), () => false); // prettier-ignore
    const problem = isFolder ? "a folder of that name is there" : cause.message;
    throw new UserError("OUTPUT", `cannot write ${path}: ${problem}; name another file`, { cause });
  } finally {
    // Where nothing can be, nothing is left.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}
