/** Which tar shards a `webdataset:` spec names, split by split. */
import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { expand } from "brace-expansion";
import { UserError } from "../protocol/errors.js";
import { sortByBytes } from "./byte-order.js";
import type { Split } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import type { WebDatasetSpec } from "./spec.js";

/** Shards that a brace range may name. */
const MOST_SHARDS = 100_000;

export interface ShardListing {
  /** folder that was named, which may hold an index; null where patterns were */
  readonly folder: string | null;
  /** absolute paths in order */
  readonly shards: Readonly<Record<Split, readonly string[]>>;
}

/**
 * A pattern's shards are in the order of its ranges; a folder's, `train-*.tar` (or `train/*.tar`) and `test-*.tar` (or `test/*.tar`), in
 * byte order of their names. A folder with neither trains on every `*.tar` that it holds.
 * @throws UserError `DATA_MISSING_FOLDER`, `DATA_NO_SHARDS`, `DATA_BAD_PATTERN`
 */
export async function listShards(spec: WebDatasetSpec): Promise<ShardListing> {
  const root = resolve(spec.train);
  const isFolder = (await stat(root).catch(() => null))?.isDirectory() ?? false;
  if (isFolder && spec.test === null) return { folder: root, shards: await shardsOfFolder(root) };
  const test = spec.test === null ? [] : await shardsOfPattern(spec.test);
  return { folder: null, shards: { train: await shardsOfPattern(spec.train), test } };
}

async function shardsOfPattern(pattern: string): Promise<string[]> {
  if (/^(https?|s3|gs|pipe):/.test(pattern)) {
    throw new UserError(
      "DATA_BAD_PATTERN",
      `shards "${pattern}" are not on a disk: fetch them first, and name their folder`,
    );
  }
  // Without a bound of its own for the length of all names, past which the rest would be left out unsaid.
  const paths = expand(pattern, { max: MOST_SHARDS + 1, maxLength: Infinity });
  if (paths.length > MOST_SHARDS) {
    throw new UserError("DATA_BAD_PATTERN", `shards "${pattern}" are more than ${MOST_SHARDS}: check the ranges`);
  }
  const listed = await Promise.all(
    paths.map(async (path) => {
      const place = resolve(path);
      const isFolder = (await stat(place).catch(() => null))?.isDirectory() ?? false;
      return isFolder ? allShardsOf(place, await namesIn(place)) : [place];
    }),
  );
  return listed.flat();
}

async function shardsOfFolder(root: string): Promise<Record<Split, string[]>> {
  const names = await namesIn(root);
  const train = await shardsOfSplit(root, names, "train");
  const test = await shardsOfSplit(root, names, "test");
  if (train.length > 0) return { train, test };
  const others = allShardsOf(
    root,
    names.filter((name) => !name.startsWith("test-")),
  );
  return { train: others, test };
}

async function shardsOfSplit(root: string, names: readonly string[], split: Split): Promise<string[]> {
  const here = names.filter((name) => isShard(name) && name.startsWith(`${split}-`));
  if (here.length > 0) return here.map((name) => join(root, name));
  const inner = join(root, split);
  return names.includes(split) ? allShardsOf(inner, await namesIn(inner)) : [];
}

function allShardsOf(folder: string, names: readonly string[]): string[] {
  const shards = names.filter(isShard).map((name) => join(folder, name));
  if (shards.length === 0) {
    throw new UserError(
      "DATA_NO_SHARDS",
      `data folder "${folder}" has no .tar files: name one with train-*.tar and test-*.tar`,
    );
  }
  return shards;
}

function isShard(name: string): boolean {
  return basename(name).endsWith(".tar") && !name.startsWith(".");
}

async function namesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new UserError(
      "DATA_MISSING_FOLDER",
      `data folder "${folder}" cannot be read (${fileErrorCode(cause)}): check the path and its permissions`,
      { cause },
    );
  });
  return sortByBytes(names);
}
