/** A data set as tar shards in WebDataset's layout, with an index. */
import { extname, join } from "node:path";
import { writeSynced } from "../checkpoint/durable.js";
import { isFileSource, type ImageDataset, type ImageSource, type Split } from "./dataset.js";
import { encodePng } from "./decode.js";
import { mapBounded } from "./map-bounded.js";
import { type IndexedShard, SHARD_INDEX_FILE, shardIndexText, type ShardIndex } from "./shard-index.js";
import { TarWriter } from "./tar-writer.js";

/** Samples read at once, and held until they are written. */
const READ_AHEAD = 32;

const SPLITS = ["train", "test"] as const satisfies readonly Split[];

export interface ShardOptions {
  /** an empty folder */
  readonly folder: string;
  /** samples in each shard; the last one of a split may have fewer */
  readonly shardSize: number;
  /** aborts between samples */
  readonly signal: AbortSignal;
  readonly onShard: (shard: IndexedShard) => void;
}

/**
 * Writes `train-000000.tar`, …, `test-000000.tar`, … and `index.json`. Sample `i` of a split has the key `i` in nine digits: its file
 * byte for byte, `.cls` where it has a label, and `.json` with the name it had. Pictures that are no files become PNG, without loss.
 * @throws UserError `DATA_UNREADABLE`; the signal's reason; Error from the operating system
 */
export async function writeShards(dataset: ImageDataset, options: ShardOptions): Promise<ShardIndex["splits"]> {
  const splits: Record<Split, IndexedShard[]> = { train: [], test: [] };
  for (const split of SPLITS) {
    const { length } = dataset.splits[split];
    for (let start = 0; start < length; start += options.shardSize) {
      const name = `${split}-${String(splits[split].length).padStart(6, "0")}.tar`;
      const shard = await writeShard(dataset, split, start, Math.min(start + options.shardSize, length), name, options);
      splits[split].push(shard);
      options.onShard(shard);
    }
  }
  const text = shardIndexText({ classes: [...dataset.classes], splits });
  await writeSynced(join(options.folder, SHARD_INDEX_FILE), [Buffer.from(text)]);
  return splits;
}

async function writeShard(
  dataset: ImageDataset,
  split: Split,
  start: number,
  end: number,
  name: string,
  { folder, signal }: ShardOptions,
): Promise<IndexedShard> {
  const { classes, decodeSize } = dataset;
  const source = dataset.splits[split];
  const writer = await TarWriter.create(join(folder, name));
  try {
    for (let from = start; from < end; from += READ_AHEAD) {
      const indices = Array.from({ length: Math.min(READ_AHEAD, end - from) }, (_, i) => from + i);
      const files = await mapBounded(indices, READ_AHEAD, (index) => fileOf(source, index, decodeSize));
      for (const [place, { extension, bytes }] of files.entries()) {
        signal.throwIfAborted();
        const index = indices[place];
        const key = String(index).padStart(9, "0");
        const label = source.labels[index];
        await writer.add(`${key}${extension}`, bytes);
        if (label >= 0) await writer.add(`${key}.cls`, Buffer.from(String(label)));
        const origin = { name: source.nameOf(index), ...(label >= 0 && { class: classes[label] }) };
        await writer.add(`${key}.json`, Buffer.from(JSON.stringify(origin)));
      }
    }
    return { name, samples: end - start, ...(await writer.finish()) };
  } finally {
    await writer.close();
  }
}

interface EncodedFile {
  /** with its dot */
  readonly extension: string;
  readonly bytes: Uint8Array;
}

async function fileOf(source: ImageSource, index: number, side: number): Promise<EncodedFile> {
  if (isFileSource(source)) {
    return { extension: extname(source.nameOf(index)).toLowerCase(), bytes: await source.encoded(index) };
  }
  const pixels = new Uint8Array(side * side * 3);
  await source.read(index, pixels, 0);
  return { extension: ".png", bytes: await encodePng(pixels, side) };
}
