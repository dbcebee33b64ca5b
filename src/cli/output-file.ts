/** Files that a command writes for the user: whole, or not there. */
import { randomBytes } from "node:crypto";
import { access, constants, mkdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../protocol/errors.js";

/** Before hours of work for it. @param flag that names the file @throws UserError `OUTPUT` where it could not be written */
export async function checkOutput(flag: string, path: string): Promise<void> {
  const refused = (reason: string) => new UserError("OUTPUT", `${flag} ${path}: ${reason}`);
  const folder = dirname(path);
  const [found, there] = await Promise.all([folder, path].map((name) => stat(name).catch(() => null)));
  if (!found?.isDirectory()) throw refused(`there is no folder ${folder}: make it first`);
  if (there?.isDirectory()) throw refused("that is a folder: name a file in it");
  if (there !== null && !there?.isFile()) throw refused("that is no file: name one");
  await access(folder, constants.W_OK).catch((cause: unknown) => {
    throw new UserError("OUTPUT", `${flag} ${path}: cannot write to ${folder}: name another folder`, { cause });
  });
}

/**
 * Writes under a temporary name beside `path` and renames; a file that was there is replaced.
 * @param write gets the temporary path, which it makes: a file or a folder
 * @throws UserError `OUTPUT` where the system refuses, or `path` is a folder and no folder is to be written
 */
export async function writeOutput(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString("hex")}.tmp`);
  const there = await stat(path).catch(() => null);
  // A device or a pipe would be replaced by a file.
  if (there !== null && !there.isFile() && !there.isDirectory())
    throw new UserError("OUTPUT", `cannot write ${path}: that is no file; name one`);
  try {
    await mkdir(dirname(path), { recursive: true });
    await write(temporary);
    await rename(temporary, path);
  } catch (cause) {
    // Errors of the system carry its number: a full disk, a folder of that name.
    if (!(cause instanceof Error && "errno" in cause)) throw cause;
    const problem = there?.isDirectory() ? "a folder of that name is there" : cause.message;
    throw new UserError("OUTPUT", `cannot write ${path}: ${problem}; name another file`, { cause });
  } finally {
    // Where nothing can be, nothing is left.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}
