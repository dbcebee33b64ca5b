/**
 * One coordinator at a time for a run directory: a file that says who holds it. It survives a crash of its holder, and is
 * then found stale: where the holder's process would be seen, when it is gone; elsewhere, when nobody touches the file while
 * one watches. Only changes count, never the date on them: clocks jump, and those of two machines differ.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, readlink, rename, rm, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "../protocol/errors.js";

const NAME = "coordinator.lock";
/** The holder touches the file so often; whoever sees no touch for five times that takes it for left. In ms. */
const TOUCH_MS = 1000;
const WATCH_MS = 5 * TOUCH_MS;
const LOOK_EVERY_MS = 250;
/** Two that find the same stale lock both write theirs; after so long the later one's is there for good. In ms. */
const SETTLED_MS = 100;

interface Holder {
  readonly host: string;
  readonly pid: number;
  /** where a process of this number would be the same one: which boot of which kernel, and which process namespace */
  readonly place: string | null;
  /** when the process started, in the kernel's ticks since boot: a number alone is used again */
  readonly start: string;
  readonly since: string;
  readonly token: string;
}

/** Who holds a run's lock. */
export type RunHolder = Pick<Holder, "host" | "pid" | "since">;

export interface RunLock {
  release(): Promise<void>;
}

/**
 * Makes the directory if need be.
 * @param taken called once when another coordinator has taken the lock all the same: this one was still for too long
 * @throws UserError `RUN_LOCKED` naming the holder, `RUN_DIRECTORY` where the lock cannot be written
 */
export async function lockRun(directory: string, taken: (error: UserError) => void): Promise<RunLock> {
  const path = join(directory, NAME);
  const own: Holder = {
    host: hostname(),
    pid: process.pid,
    place: await placeHere(),
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
    throw new UserError(
      "RUN_DIRECTORY",
      `cannot write in the run directory ${directory} (${message}): is its volume mounted, and may this user write there?`,
      { cause },
    );
  } finally {
    // Where it could not be made there is nothing to remove.
    await rm(temporary, { force: true }).catch(() => undefined);
  }
  const touch = async () => {
    const holder = await holderOf(path);
    if (holder !== null && holder.token !== own.token) {
      clearInterval(touching);
      taken(locked(directory, holder));
      return;
    }
    const now = new Date();
    await utimes(path, now, now);
  };
  // Where the disk fails for a while, the next touch may succeed.
  const touching = setInterval(() => void touch().catch(() => undefined), TOUCH_MS);
  touching.unref();
  return {
    release: async () => {
      clearInterval(touching);
      if ((await holderOf(path))?.token === own.token) await rm(path, { force: true });
    },
  };
}

/**
 * The coordinator that serves a run. Where it is in another place this takes some seconds: a lock that is left must be watched.
 * @returns null where there is none
 */
export async function runHolder(directory: string): Promise<RunHolder | null> {
  const path = join(directory, NAME);
  const holder = await holderOf(path);
  if (holder === null || !(await isThere(holder, path))) return null;
  const { host, pid, since } = holder;
  return { host, pid, since };
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
  await sleep(SETTLED_MS);
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

async function isThere({ place, pid, start }: Holder, path: string): Promise<boolean> {
  if (place !== null && place === (await placeHere())) return (await startOf(pid)) === start;
  return isTouched(path);
}

/** Watches for as long as a live holder would need to touch the file several times; by the monotonic clock. */
async function isTouched(path: string): Promise<boolean> {
  const until = performance.now() + WATCH_MS;
  const before = await stampOf(path);
  while (performance.now() < until) {
    await sleep(LOOK_EVERY_MS);
    if ((await stampOf(path)) !== before) return true;
  }
  return false;
}

/** @returns null where there is no file */
async function stampOf(path: string): Promise<bigint | null> {
  try {
    // Opened: a network file system may answer a plain stat from its cache.
    await using file = await open(path);
    return (await file.stat({ bigint: true })).mtimeNs;
  } catch {
    return null;
  }
}

/** @returns null where the system does not say */
async function placeHere(): Promise<string | null> {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    return `${boot.trim()} ${await readlink("/proc/self/ns/pid")}`;
  } catch {
    return null;
  }
}

/** @returns null where there is no such process, or a dead one whose parent has not asked after it */
async function startOf(pid: number): Promise<string | null> {
  try {
    const status = await readFile(`/proc/${String(pid)}/stat`, "utf8");
    // From the third field of proc(5) on: the state, and as field 22 the start.
    const fields = status.replace(/^.*\) /s, "").split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
