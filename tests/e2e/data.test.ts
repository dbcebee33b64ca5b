/** `tandem data`: what users see of it. */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const photos = join(folder, "photos");

function write(name: string, bytes: Uint8Array | string): void {
  mkdirSync(join(photos, name, ".."), { recursive: true });
  writeFileSync(join(photos, name), bytes);
}

const plain = (width: number, height: number, red: number) =>
  sharp({ create: { width, height, channels: 3, background: { r: red, g: 100, b: 50 } } });

beforeAll(async () => {
  write("train/cat/0.jpg", await plain(40, 30, 200).jpeg().toBuffer());
  write("train/cat/1.png", await plain(20, 60, 10).png().toBuffer());
  // Lying on its side: 50 wide and 10 high once upright.
  write("train/cat/2.jpg", await plain(10, 50, 90).withMetadata({ orientation: 6 }).jpeg().toBuffer());
  write("train/dog/0.webp", await plain(21, 61, 90).webp().toBuffer());
  write("train/dog/1.jpg", "no picture");
  write("test/dog/0.jpg", await plain(8, 8, 90).jpeg().toBuffer());
});

describe("tandem data inspect", () => {
  it("counts images and labels, and measures what can be decoded", async () => {
    const { code, stdout, stderr } = await tandem(["data", "inspect", `folder:${photos}`, "--json"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      spec: `folder:${photos}`,
      manifestHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      classes: ["cat", "dog"],
      modality: "image",
      splits: {
        train: {
          images: 5,
          labels: { cat: 3, dog: 2 },
          looked: 5,
          corrupt: ["train/dog/1.jpg"],
          width: { min: 20, median: 30.5, max: 50 },
          height: { min: 10, median: 45, max: 61 },
          formats: { jpeg: 2, png: 1, webp: 1 },
        },
        test: {
          images: 1,
          labels: { cat: 0, dog: 1 },
          looked: 1,
          corrupt: [],
          width: { min: 8, median: 8, max: 8 },
          height: { min: 8, median: 8, max: 8 },
          formats: { jpeg: 1 },
        },
      },
      sheet: null,
    });
  });

  it("counts pairs, and draws both pictures of each beside its views", async () => {
    const sheet = join(folder, "pairs.png");
    write("pairs.csv", "query,key,label\ntrain/cat/0.jpg,train/cat/1.png,cat\ntrain/dog/0.webp,train/dog/1.jpg,dog\n");
    const spec = `pairs:${join(photos, "pairs.csv")}`;
    const args = ["data", "inspect", spec, "--sheet", sheet, "--pairs", "1", "--set", "data.maxCorrupt=1"];
    const { code, stdout, stderr } = await tandem(args);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("train      2 pairs of images\n           cat 1, dog 1\n");
    expect(stdout).toContain(
      "queries: 2 looked at: width 21 to 40 (median 30.5), height 30 to 61 (median 45.5) pixels",
    );
    expect(stdout).toContain("keys: 1 of them cannot be decoded: train/dog/1.jpg");
    expect(stderr).toContain("train/dog/1.jpg cannot be decoded; another stands in");
    expect((await sharp(sheet).metadata()).width).toBe(4 * 100 + 4);
    const shard = await tandem(["data", "shard", spec, "--out", join(folder, "no-shards")]);
    expect([shard.code, shard.stderr]).toEqual([2, expect.stringContaining("holds pairs")]);
  });

  it("draws the views of a run, and the picture itself where the config changes nothing", async () => {
    const sheet = join(folder, "sheet.png");
    const still = ["crop", "flip", "rotation", "jitter", "grayscale", "blur"].flatMap((stage) => [
      "--set",
      `augmentation.${stage}.probability=0`,
    ]);
    const args = ["data", "inspect", "synthetic:train=30", "--sheet", sheet, "--rows", "3", "--pairs", "2"];
    const { code, stdout, stderr } = await tandem([...args, ...still]);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain(`sheet      ${sheet}`);
    const { data, info } = await sharp(sheet).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    // Five columns and three rows of 32 pixels three times enlarged, with gaps of 4.
    expect([info.width, info.height]).toEqual([5 * 100 + 4, 3 * 100 + 4]);
    const cell = (row: number, column: number) =>
      sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } })
        .extract({ left: 4 + 100 * column, top: 4 + 100 * row, width: 96, height: 96 })
        .raw()
        .toBuffer();
    for (let row = 0; row < 3; row++) {
      const picture = await cell(row, 0);
      expect(picture.some((value) => value !== picture[0])).toBe(true);
      for (let column = 1; column < 5; column++) expect((await cell(row, column)).equals(picture)).toBe(true);
    }
    expect((await cell(0, 0)).equals(await cell(1, 0))).toBe(false);
    const { code: again } = await tandem(args);
    expect(again).toBe(0);
    const augmented = await sharp(sheet).removeAlpha().raw().toBuffer();
    expect(augmented.length).toBe(data.length);
    expect(augmented.equals(data)).toBe(false);
  });

  it.each([
    [["folder:/nowhere"], '"/nowhere" cannot be read (ENOENT)'],
    [["synthetic", "--rows", "0"], "--rows 0: give a whole number from 1 to 100"],
    [["synthetic:train=20", "--sheet", "/nowhere/a.png"], 'sheet "/nowhere/a.png" cannot be written'],
    [["folder:"], "names no path"],
  ])("refuses %j in one line", async (args, part) => {
    const { code, stderr } = await tandem(["data", "inspect", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("tandem data shard", () => {
  it("writes shards that --data webdataset: reads, and refuses a folder with something in it", async () => {
    const out = join(folder, "new/shards");
    const args = ["data", "shard", `folder:${photos}`, "--out", out, "--shard-size", "2"];
    const { code, stdout, stderr } = await tandem(args);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("5 training samples in 3 shards, 1 test samples in 1 shard\n");
    expect(readdirSync(join(folder, "new"))).toEqual(["shards"]);
    const inspected = await tandem(["data", "inspect", `webdataset:${out}`, "--json"]);
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      classes: ["cat", "dog"],
      splits: {
        train: { images: 5, labels: { cat: 3, dog: 2 }, corrupt: ["train-000002.tar/000000004.jpg"] },
        test: { images: 1, labels: { cat: 0, dog: 1 } },
      },
    });
    const second = await tandem(args);
    expect(second.code).toBe(2);
    expect(second.stderr).toMatch(/new\/shards" exists already: name another folder/);
  });

  it.each([
    [["--out", "/dev/null/shards"], '"/dev/null/shards" cannot be written: ENOTDIR'],
    [["--out", "x", "--shard-size", "0.5"], "--shard-size 0.5: give a whole number above 0"],
    [[], "Missing required argument: out"],
  ])("refuses %j in one line", async (args, part) => {
    const { code, stderr } = await tandem(["data", "shard", "synthetic:train=20", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("tandem data fetch", () => {
  it("refuses what has another checksum than is published, and leaves nothing", async () => {
    const server = createServer((_, response) => response.end("something else"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const from = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const out = join(folder, "fetched");
    const { code, stderr } = await tandem(["data", "fetch", "cifar10", "--out", out, "--from", from]);
    server.close();
    expect(code).toBe(2);
    expect(stderr).toContain(`what came from ${from}cifar-10-binary.tar.gz has md5`);
    expect(stderr).toContain("c32a1d4ab5d03f1284b67883e8d87530 is published");
    expect(readdirSync(out)).toEqual([]);
  });

  it.each([
    [["cifar10", "--from", "http://127.0.0.1:9/"], "http://127.0.0.1:9/cifar-10-binary.tar.gz cannot be reached"],
    [["cifar10", "--from", "mirror"], '--from "mirror" is no http or https URL'],
    [["mnist"], "mnist"],
  ])("refuses %j", async (args, part) => {
    const { code, stderr } = await tandem(["data", "fetch", ...args, "--out", join(folder, "fetched")]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("tandem bench loader", () => {
  it("counts images that a pool of so many threads decodes, corrupt ones replaced", async () => {
    const args = ["--data", `folder:${photos}`, "--images", "9", "--batch", "4", "--threads", "2", "--json"];
    const { code, stdout, stderr } = await tandem(["bench", "loader", ...args]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      data: `folder:${photos}`,
      threads: 2,
      decodeSize: 256,
      imageSize: 224,
      batch: 4,
      images: 12,
      imagesPerSecond: expect.any(Number),
      cpuMsPerImage: expect.any(Number),
    });
  });

  it.each([
    [["--images", "0"], "--images 0: give a whole number above 0"],
    [["--batch", "6"], "5 training samples, fewer than a global batch of 6"],
  ])("refuses %j in one line", async (args, part) => {
    const { code, stderr } = await tandem(["bench", "loader", "--data", `folder:${photos}`, ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});
