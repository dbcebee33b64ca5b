/** One set-up at a time, per checkout and per cache. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { log, SetupError } from "./report.mjs";

// Node has no flock(2). The lock belongs to the open file, which Python shares with us, so it stays ours when Python ends;
// and the kernel lifts it when the last holder (we, or a tool that we started) is gone, however it died.
const TRY = "import fcntl; fcntl.flock(3, fcntl.LOCK_EX | fcntl.LOCK_NB)";
const WAIT = "import fcntl; fcntl.flock(3, fcntl.LOCK_EX)";

/**
 * Waits until this process holds the lock.
 * @param {string} path a file that is made for the purpose and stays
 * @returns {{ fd: number, release: () => void }}
 */
export function takeLock(path) {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, "a");
  const python = (/** @type {string} */ code) =>
    spawnSync("python3", ["-c", code], { stdio: ["ignore", "ignore", "ignore", fd] }).status === 0;
  if (!python(TRY)) {
    log("another set-up is at work here: waiting for its end");
    if (!python(WAIT)) {
      closeSync(fd);
      throw new SetupError(
        `cannot lock ${path}: is it on a file system without flock? Set TANDEM_CACHE to a local directory`,
      );
    }
  }
  return { fd, release: () => closeSync(fd) };
}
