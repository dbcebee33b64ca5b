import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { isFileSource, type ImageDataset, type ImageSource } from "../../../src/data/dataset.js";
import { openImages } from "../../../src/data/open.js";
import type { IndexedShard } from "../../../src/data/shard-index.js";
import { writeShards } from "../../../src/data/write-shards.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 16;
const never = new AbortController().signal;

async function write(dataset: ImageDataset, name: string, shardSize: number) {
  const out = join(folder.path, name);
  mkdirSync(out);
  const told: IndexedShard[] = [];
  const splits = await writeShards(dataset, {
    folder: out,
    shardSize,
    signal: never,
    onShard: (each) => told.push(each),
  });
  expect(told).toEqual([...splits.train, ...splits.test]);
  return { out, splits };
}

const open = (spec: string, decodeSize = SIDE) => openImages(spec, { decodeSize });

async function pixelsOf(source: ImageSource, side: number): Promise<Uint8Array[]> {
  return Promise.all(
    Array.from({ length: source.length }, async (_, index) => {
      const pixels = new Uint8Array(side * side * 3);
      await source.read(index, pixels, 0);
      return pixels;
    }),
  );
}

async function filesOf(source: ImageSource): Promise<Uint8Array[]> {
  if (!isFileSource(source)) throw new Error("no files");
  return Promise.all(Array.from({ length: source.length }, (_, index) => source.encoded(index)));
}

beforeAll(async () => {
  const formats = ["jpg", "png", "webp", "jpeg", "JPG"] as const;
  for (let number = 0; number < 23; number++) {
    const side = 10 + number;
    const values = Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 31 + number * 57) % 256);
    const extension = formats[number % formats.length];
    const format = extension === "png" || extension === "webp" ? extension : "jpeg";
    const bytes = await sharp(values, { raw: { width: side, height: side, channels: 3 } })
      .toFormat(format)
      .toBuffer();
    const split = number < 17 ? "train" : "test";
    folder.write(`photos/${split}/${["ant", "bee"][number % 2]}/picture.${number}.v1.${extension}`, bytes);
  }
});

describe("a folder as tar shards", () => {
  it("comes back with the same samples, labels, files and pixels", async () => {
    const photos = await open(`folder:${join(folder.path, "photos")}`);
    const { out, splits } = await write(photos, "shards", 5);
    expect(splits.train.map(({ name, samples }) => [name, samples])).toEqual([
      ["train-000000.tar", 5],
      ["train-000001.tar", 5],
      ["train-000002.tar", 5],
      ["train-000003.tar", 2],
    ]);
    expect(splits.test.map(({ samples }) => samples)).toEqual([5, 1]);
    const shards = await open(`webdataset:${out}`);
    expect(shards.classes).toEqual(["ant", "bee"]);
    for (const split of ["train", "test"] as const) {
      expect([...shards.splits[split].labels]).toEqual([...photos.splits[split].labels]);
      expect(await filesOf(shards.splits[split])).toEqual(await filesOf(photos.splits[split]));
      expect(await pixelsOf(shards.splits[split], SIDE)).toEqual(await pixelsOf(photos.splits[split], SIDE));
    }
    // Sharded again, they are the same samples in other shards.
    const { out: again } = await write(shards, "again", 1000);
    const second = await open(`webdataset:${again}`);
    expect(await filesOf(second.splits.train)).toEqual(await filesOf(photos.splits.train));
    expect(second.classes).toEqual(["ant", "bee"]);
  });

  it("is written with the index's digests, in bytes that any tar reads and that depend on the samples alone", async () => {
    const photos = await open(`folder:${join(folder.path, "photos")}`);
    const first = await write(photos, "first", 9);
    const second = await write(photos, "second", 9);
    expect(second.splits).toEqual(first.splits);
    expect(readdirSync(first.out).sort()).toEqual([
      "index.json",
      "test-000000.tar",
      "train-000000.tar",
      "train-000001.tar",
    ]);
    for (const { name, bytes, sha256 } of first.splits.train) {
      const content = readFileSync(join(first.out, name));
      expect([content.length, createHash("sha256").update(content).digest("hex")]).toEqual([bytes, sha256]);
    }
    const shard = join(first.out, "train-000001.tar");
    const listed = execFileSync("tar", ["-tf", shard]).toString().trim().split("\n");
    expect(listed.slice(0, 3)).toEqual([`000000009${listed[0].slice(9)}`, "000000009.cls", "000000009.json"]);
    const origin: unknown = JSON.parse(execFileSync("tar", ["-xOf", shard, "000000009.json"]).toString());
    expect(origin).toEqual({ name: photos.splits.train.nameOf(9), class: "bee" });
  });

  it("keeps what has no labels without", async () => {
    folder.write("bare/0.png", readFileSync(join(folder.path, "photos/train/bee/picture.1.v1.png")));
    const { out } = await write(await open(`folder:${join(folder.path, "bare")}`), "unlabelled", 10);
    const { classes, splits } = await open(`webdataset:${out}`);
    expect([classes, [...splits.train.labels]]).toEqual([[], [-1]]);
  });

  it("stops between samples when it is told to", async () => {
    const photos = await open(`folder:${join(folder.path, "photos")}`);
    const out = join(folder.path, "stopped");
    mkdirSync(out);
    const stop = new AbortController();
    const options = { folder: out, shardSize: 5, signal: stop.signal, onShard: () => stop.abort(new Error("enough")) };
    await expect(writeShards(photos, options)).rejects.toThrow("enough");
    expect(readdirSync(out)).not.toContain("index.json");
  });
});

it("pictures that are no files become PNG, without loss", async () => {
  const drawn = await open("synthetic:size=16,train=7,test=3,classes=3");
  const { out } = await write(drawn, "drawn", 4);
  const shards = await open(`webdataset:${out}`);
  expect(shards.classes).toEqual(drawn.classes);
  expect([...shards.splits.train.labels]).toEqual([...drawn.splits.train.labels]);
  expect(await pixelsOf(shards.splits.train, 16)).toEqual(await pixelsOf(drawn.splits.train, 16));
  expect(shards.splits.train.nameOf(4)).toBe("train-000001.tar/000000004.png");
});

describe("the index", () => {
  it("refuses shards that are missing or of another number of samples", async () => {
    const { out } = await write(await open("synthetic:size=16,train=7,test=3,classes=3"), "indexed", 4);
    const path = join(out, "index.json");
    const index = JSON.parse(readFileSync(path, "utf8")) as { splits: { train: { samples: number }[] } };
    index.splits.train[1].samples = 4;
    writeFileSync(path, JSON.stringify(index));
    await expect(open(`webdataset:${out}`)).rejects.toMatchObject({
      code: "DATA_SHARD_MISMATCH",
      message: expect.stringMatching(/train-000001\.tar" has 3 samples, and index\.json says 4/),
    });
    rmSync(join(out, "train-000001.tar"));
    await expect(open(`webdataset:${out}`)).rejects.toMatchObject({
      code: "DATA_SHARD_MISMATCH",
      message: expect.stringContaining('"train-000001.tar" is in index.json and not there'),
    });
    for (const text of ["{", '{"tandemShards": 2}', '{"tandemShards": 1, "classes": 3}']) {
      writeFileSync(path, text);
      await expect(open(`webdataset:${out}`)).rejects.toMatchObject({ code: "DATA_BAD_INDEX" });
    }
    writeFileSync(path, '{"wids_version": 1}');
    expect((await open(`webdataset:${out}`)).splits.train.length).toBe(4);
  });
});
