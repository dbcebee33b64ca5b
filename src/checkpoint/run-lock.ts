/**
 * One coordinator at a time for a run directory: a file that says who holds it. It survives a crash of its holder, and is
 * then found stale: on the same host when the process is gone, on another when it has not been touched for a while.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { UserError } from "../protocol/errors.js";

const NAME = "coordinator.lock";
/** The holder touches the file so often; from another host it counts as left after six times that. In ms. */
const TOUCH_MS = 5000;
const LEFT_AFTER_MS = 6 * TOUCH_MS;
/** Two that find the same stale lock both write theirs; after so long the later one's is there for good. In ms. */
const SETTLED_MS = 100;

interface Holder {
  readonly host: string;
  readonly pid: number;
  /** when the process started, in the kernel's ticks since boot, and which boot: a pid alone is used again */
  readonly start: string;
  readonly since: string;
  readonly token: string;
}

export interface RunLock {
  release(): Promise<void>;
}

/** Makes the directory if need be. @throws UserError `RUN_LOCKED` naming the holder, `RUN_DIRECTORY` where the lock cannot be written */
export async function lockRun(directory: string): Promise<RunLock> {
  const path = join(directory, NAME);
  const own: Holder = {
    host: hostname(),
    pid: process.pid,
    start: (await startOf(process.pid)) ?? "",
    since: new Date().toISOString(),
    token: randomBytes(16).toString("hex"),
  };
  const temporary = `${path}.${own.token}`;
  try {
    await mkdir(directory, { recursive: true });
    await writeFile(temporary, `${JSON.stringify(own)}\n`, { flag: "wx" });
    await take(directory, path, temporary, own);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const { message } = cause as Error;
    throw new UserError("RUN_DIRECTORY", `cannot lock the run directory ${directory}: ${message}`, { cause });
  } finally {
    // Where it could not be made there is nothing to remove.
    await rm(temporary, { force: true }).catch(() => undefined);
  }
  const touching = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, TOUCH_MS);
  touching.unref();
  return {
    release: async () => {
      clearInterval(touching);
      if ((await holderOf(path))?.token === own.token) await rm(path, { force: true });
    },
  };
}

async function take(directory: string, path: string, temporary: string, own: Holder): Promise<void> {
  try {
    // Unlike a rename, a link fails where the name is taken.
    await link(temporary, path);
    return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const before = await holderOf(path);
  if (before !== null && (await isThere(before, path))) throw locked(directory, before);
  await rename(temporary, path);
  await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
  const now = await holderOf(path);
  if (now !== null && now.token !== own.token) throw locked(directory, now);
}

function locked(directory: string, { host, pid, since }: Holder): UserError {
  return new UserError(
    "RUN_LOCKED",
    `${directory} is in use by the coordinator with process id ${String(pid)} on ${host}, since ${since}: stop that one first, ` +
      "or choose another --out",
  );
}

/** @returns null where there is none, or none that can be read: a torn one is as good as left */
async function holderOf(path: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Holder;
  } catch {
    return null;
  }
}

async function isThere({ host, pid, start }: Holder, path: string): Promise<boolean> {
  if (host === hostname()) return (await startOf(pid)) === start;
  const { mtimeMs } = await stat(path);
  return Date.now() - mtimeMs < LEFT_AFTER_MS;
}

/** @returns null where there is no such process */
async function startOf(pid: number): Promise<string | null> {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    const fields = (await readFile(`/proc/${String(pid)}/stat`, "utf8")).replace(/^.*\) /s, "").split(" ");
    // Field 22 of proc(5), of which two are cut off.
    return `${boot.trim()} ${fields[19] ?? ""}`;
  } catch {
    return null;
  }
}
