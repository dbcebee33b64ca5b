/** Tar shards in WebDataset's layout as a data set: indexed once by their headers, then read by position without unpacking. */
import { basename } from "node:path";
import { UserError } from "../protocol/errors.js";
import { CorruptSampleError, type ImageDataset, type FileSource, type Split } from "./dataset.js";
import { decodeSquare, squareAt } from "./decode.js";
import { fileErrorCode } from "./file-error.js";
import { mapBounded } from "./map-bounded.js";
import { manifestHash } from "./manifest.js";
import { readRange } from "./positioned-file.js";
import { readShardIndex, type ShardIndex } from "./shard-index.js";
import { listShards } from "./shard-listing.js";
import { readShardSamples, type ShardSample } from "./shard-samples.js";
import type { WebDatasetSpec } from "./spec.js";

/** Shards whose headers are read at once. */
const SHARDS_AT_ONCE = 16;

/** A sample and the shard that it lies in. */
interface ShardedSample extends ShardSample {
  readonly shard: string;
}

/** @throws UserError as `listShards` and `readShardSamples`, `DATA_SHARD_MISMATCH`, `DATA_NO_IMAGES`, `DATA_MIXED_LABELS`, `DATA_UNKNOWN_CLASS` */
export async function openWebDataset(spec: WebDatasetSpec, decodeSize: number): Promise<ImageDataset> {
  const { folder, shards } = await listShards(spec);
  const index = folder === null ? null : await readShardIndex(folder);
  const train = await samplesOf(shards.train, index?.splits.train);
  const test = await samplesOf(shards.test, index?.splits.test);
  if (train.length === 0) throw new UserError("DATA_NO_IMAGES", `shards "${spec.train}" hold no samples`);
  const all = [...train, ...test];
  refuseMixed(all);
  const entries = (["train", "test"] as const).flatMap((split) =>
    (split === "train" ? train : test).map((sample) => ({
      name: `${split}/${nameOf(sample)}`,
      label: sample.label,
      bytes: sample.image.bytes,
    })),
  );
  return {
    modality: "image",
    classes: classesOf(train, test, index),
    decodeSize,
    splits: { train: new ShardSource(train, decodeSize), test: new ShardSource(test, decodeSize) },
    manifestHash: manifestHash("webdataset", entries),
  };
}

/** Samples of a split in the order of its shards. */
async function samplesOf(
  paths: readonly string[],
  indexed: ShardIndex["splits"][Split] | undefined,
): Promise<ShardedSample[]> {
  const shards = await mapBounded(paths, SHARDS_AT_ONCE, readShardSamples);
  if (indexed !== undefined) {
    const missing = indexed.find(({ name }) => !paths.some((path) => basename(path) === name));
    if (missing !== undefined) {
      throw new UserError(
        "DATA_SHARD_MISMATCH",
        `shard "${missing.name}" is in index.json and not there: copy it again`,
      );
    }
  }
  const shardOfKey = new Map<string, string>();
  return shards.flatMap((samples, number) => {
    const shard = paths[number];
    const expected = indexed?.find(({ name }) => name === basename(shard))?.samples ?? samples.length;
    if (expected !== samples.length) {
      throw new UserError(
        "DATA_SHARD_MISMATCH",
        `shard "${shard}" has ${samples.length} samples, and index.json says ${expected}: copy it again`,
      );
    }
    for (const { key } of samples) {
      const other = shardOfKey.get(key);
      if (other !== undefined) {
        throw new UserError(
          "DATA_DUPLICATE_KEY",
          `shards "${other}" and "${shard}" both have the key "${key}": give each sample its own`,
        );
      }
      shardOfKey.set(key, shard);
    }
    return samples.map((sample) => ({ ...sample, shard }));
  });
}

function refuseMixed(samples: readonly ShardedSample[]): void {
  const labelled = samples.find(({ label }) => label >= 0);
  const unlabelled = samples.find(({ label }) => label < 0);
  if (labelled === undefined || unlabelled === undefined) return;
  throw new UserError(
    "DATA_MIXED_LABELS",
    `sample "${nameOf(labelled)}" has a label and "${nameOf(unlabelled)}" has none: label all (.cls, or label in .json) or none`,
  );
}

/** Numbers serve as names where nothing says better. */
function classesOf(
  train: readonly ShardedSample[],
  test: readonly ShardedSample[],
  index: ShardIndex | null,
): string[] {
  const greatest = (samples: readonly ShardedSample[]) =>
    samples.reduce((most, { label }) => Math.max(most, label), -1);
  const count = greatest(train) + 1;
  const stranger = test.find(({ label }) => label >= Math.max(count, index?.classes.length ?? 0));
  if (stranger !== undefined && stranger.label >= 0) {
    throw new UserError(
      "DATA_UNKNOWN_CLASS",
      `test sample "${nameOf(stranger)}" has label ${stranger.label}, and training samples have 0 to ${count - 1}: check the labels`,
    );
  }
  if (index !== null && index.classes.length >= count) return index.classes;
  return Array.from({ length: count }, (_, label) => String(label));
}

/** Without the shard's folder, so that workers with other mount points give the same name. */
function nameOf({ shard, image }: ShardedSample): string {
  return `${basename(shard)}/${image.name}`;
}

class ShardSource implements FileSource {
  readonly length: number;
  readonly labels: Int32Array;

  constructor(
    private readonly samples: readonly ShardedSample[],
    private readonly decodeSize: number,
  ) {
    this.length = samples.length;
    this.labels = Int32Array.from(samples, ({ label }) => label);
  }

  nameOf(index: number): string {
    return nameOf(this.samples[index]);
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const bytes = await this.encoded(index);
    try {
      await decodeSquare(bytes, this.decodeSize, squareAt(target, offset, this.decodeSize));
    } catch (cause) {
      throw new CorruptSampleError(this.nameOf(index), { cause });
    }
  }

  /** @throws UserError `DATA_UNREADABLE` where the shard cannot be read, or has become shorter since it was indexed */
  async encoded(index: number): Promise<Uint8Array> {
    const { shard, image } = this.samples[index];
    const refusal = (reason: string, cause?: unknown) =>
      new UserError("DATA_UNREADABLE", `shard "${shard}" cannot be read (${reason}): is the folder still mounted?`, {
        cause,
      });
    const bytes = await readRange(shard, image.offset, image.bytes).catch((cause: unknown) => {
      throw refusal(fileErrorCode(cause), cause);
    });
    if (bytes.length < image.bytes) throw refusal("it has become shorter");
    return bytes;
  }
}
