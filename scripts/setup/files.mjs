/** Files that are whole or not there, and digests. */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { lstatSync, readlinkSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** @param {string} path flushes a file, or a directory's entries, to disk */
export function sync(path) {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A name beside `path` that no other process uses. @param {string} path */
export function temporaryName(path) {
  return `${path}.${process.pid}-${Math.random().toString(36).slice(2, 8)}.partial`;
}

/** Temporary name, fsync, rename. @param {string} path @param {string} text */
export function writeWhole(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = temporaryName(path);
  const fd = openSync(temporary, "w");
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  sync(dirname(path));
}

/** Makes `path` a symbolic link to `target`, whatever was there. @param {string} path @param {string} target */
export function linkTo(path, target) {
  const before = lstatSync(path, { throwIfNoEntry: false });
  if (before?.isSymbolicLink() && readlinkSync(path) === target) return;
  if (before?.isDirectory()) rmSync(path, { recursive: true });
  mkdirSync(dirname(path), { recursive: true });
  const temporary = temporaryName(path);
  symlinkSync(target, temporary);
  renameSync(temporary, path);
}

/** @param {string} path @returns {string | null} null where there is none */
export function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return null;
    throw error;
  }
}

/** @param {readonly (string | Buffer)[]} parts @returns {string} hex; each part is prefixed by its length */
export function sha256(...parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest("hex");
}
