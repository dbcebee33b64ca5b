/** `index.json` beside tar shards, as `tandem data shard` writes it: what is there, and the names of the classes. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../protocol/errors.js";
import { fileErrorCode } from "./file-error.js";

export const SHARD_INDEX_FILE = "index.json";
const SHARD_INDEX_VERSION = 1;

const shard = z.object({
  name: z.string(),
  samples: z.number().int().positive(),
  bytes: z.number().int().positive(),
  sha256: z.string(),
});

const schema = z.object({
  tandemShards: z.literal(SHARD_INDEX_VERSION),
  /** names by label; empty where there are no labels */
  classes: z.array(z.string()),
  splits: z.object({ train: z.array(shard), test: z.array(shard) }),
});

export type ShardIndex = z.infer<typeof schema>;
export type IndexedShard = z.infer<typeof shard>;

export function shardIndexText(index: Omit<ShardIndex, "tandemShards">): string {
  return `${JSON.stringify({ tandemShards: SHARD_INDEX_VERSION, ...index }, null, 2)}\n`;
}

/**
 * @returns null where the folder has none, or another program's
 * @throws UserError `DATA_BAD_INDEX` where it is ours and unusable
 */
export async function readShardIndex(folder: string): Promise<ShardIndex | null> {
  const path = join(folder, SHARD_INDEX_FILE);
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (fileErrorCode(error) === "ENOENT") return null;
    throw new UserError("DATA_BAD_INDEX", `index "${path}" cannot be read: shard the data again, or remove it`, {
      cause: error,
    });
  }
  if (typeof content !== "object" || content === null || !("tandemShards" in content)) return null;
  const parsed = schema.safeParse(content);
  if (!parsed.success) {
    const { path: place, message } = parsed.error.issues[0];
    throw new UserError(
      "DATA_BAD_INDEX",
      `index "${path}" is unusable (${place.join(".")}: ${message}): shard the data again`,
    );
  }
  return parsed.data;
}
