import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { resolveConfig, type RunConfig } from "../../../src/config/index.js";
import type { ImageDataset, TextDataset } from "../../../src/data/dataset.js";
import { drawViews } from "../../../src/data/draws.js";
import { inspectDataset } from "../../../src/data/inspect.js";
import { openDataset } from "../../../src/data/open.js";
import { imageViews, openRunDataset, textViews } from "../../../src/data/run-samples.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 8;
const IMAGE_BYTES = SIDE * SIDE * 3;

const open = (spec: string) => openDataset(spec, { decodeSize: SIDE });

async function openImagePairs(spec: string): Promise<ImageDataset> {
  const dataset = await open(spec);
  return dataset.modality === "image" ? dataset : expect.fail("it holds texts");
}

async function openTextPairs(spec: string): Promise<TextDataset> {
  const dataset = await open(spec);
  return dataset.modality === "text" ? dataset : expect.fail("it holds images");
}

/** A PNG that is one gray all over. */
async function writeGray(name: string, gray: number): Promise<void> {
  const background = { r: gray, g: gray, b: gray };
  const picture = sharp({ create: { width: SIDE, height: SIDE, channels: 3, background } });
  folder.write(name, await picture.png().toBuffer());
}

beforeAll(async () => {
  for (let index = 0; index < 4; index++) {
    await writeGray(`photos/q${index}.png`, 10 * index);
    await writeGray(`photos/deep/k${index}.png`, 100 + 10 * index);
  }
});

const rows = (...indices: number[]) => indices.map((index) => `q${index}.png,deep/k${index}.png`);
const writePhotos = (name: string, ...lines: string[]) => folder.write(`photos/${name}`, `${lines.join("\n")}\n`);
const jsonLines = (...records: unknown[]) => records.map((record) => JSON.stringify(record)).join("\n");

describe("pairs of images", () => {
  it("are read relative to the file that lists them, with labels, and at rest are their queries", async () => {
    const train = writePhotos("a,b.csv", "label,query,note,key", "dog,q0.png,x,deep/k0.png", "cat,q1.png,y,q1.png");
    const test = writePhotos("test.csv", "query,key,label", "q2.png,deep/k2.png,dog");
    const { classes, splits, keys } = await openImagePairs(`pairs:${train},test=${test}`);
    expect(classes).toEqual(["cat", "dog"]);
    expect([[...splits.train.labels], [...splits.test.labels]]).toEqual([[1, 0], [1]]);
    expect([splits.train.nameOf(0), keys?.train.nameOf(0)]).toEqual(["q0.png", "deep/k0.png"]);
    const square = new Uint8Array(IMAGE_BYTES);
    await splits.train.read(0, square, 0);
    expect(square[0]).toBe(0);
    await keys?.train.read(0, square, 0);
    expect(square[0]).toBe(100);
  });

  it("are the same data as CSV and as JSONL, under other columns, and in another folder", async () => {
    const csv = await open(`pairs:${writePhotos("same.csv", "query,key", ...rows(0, 1))}`);
    const records = jsonLines({ a: "q0.png", p: "deep/k0.png" }, { a: "q1.png", p: "deep/k1.png", label: null });
    const jsonl = await open(`pairs:${writePhotos("same.jsonl", records)},query=a,key=p`);
    const moved = folder.write(
      "same.csv",
      "query,key\nphotos/q0.png,photos/deep/k0.png\nphotos/q1.png,photos/q1.png\n",
    );
    expect(jsonl.manifestHash).toBe(csv.manifestHash);
    expect((await open(`pairs:${moved}`)).manifestHash).not.toBe(csv.manifestHash);
    const turned = await open(`pairs:${writePhotos("turned.csv", "key,query", ...rows(0, 1))}`);
    expect(turned.manifestHash).not.toBe(csv.manifestHash);
  });

  it("give the query's image and the key's, in pairs, with the draws of any run's views", async () => {
    const config = await runConfig({ "data.imageSize": SIDE, "data.decodeSize": SIDE });
    const dataset = await openImagePairs(`pairs:${writePhotos("views.csv", "query,key", ...rows(0, 1, 2, 3))}`);
    for (const cacheMiB of [0, 1]) {
      const reader = imageViews(dataset, { ...config, data: { ...config.data, cacheMiB } }, fails);
      for (let epoch = 0; epoch < 2; epoch++) {
        const samples = Int32Array.of(2, 0, 3);
        const { views, held } = await reader.read(epoch, samples);
        expect(held).toEqual([2, 0, 3]);
        const grays = (images: Uint8Array | null) => images?.filter((_, place) => place % IMAGE_BYTES === 5);
        expect([grays(views.images), grays(views.keyImages)]).toEqual([
          Uint8Array.of(20, 0, 30),
          Uint8Array.of(120, 100, 130),
        ]);
        for (const array of [views.images, views.keyImages]) expect(array?.buffer).toBeInstanceOf(SharedArrayBuffer);
        const draws = (view: 0 | 1) => drawViews(config.augmentation, config.seed, epoch, samples, view, SIDE, SIDE);
        expect([views.drawsQuery, views.drawsKey]).toEqual([draws(0), draws(1)]);
      }
    }
  });

  it("are replaced whole where one of the two cannot be decoded", async () => {
    folder.write("photos/broken.png", "no picture");
    const lines = ["q0.png,broken.png", "broken.png,deep/k1.png", ...rows(2)];
    const dataset = await openImagePairs(`pairs:${writePhotos("broken.csv", "query,key", ...lines)}`);
    const config = await runConfig({ "data.imageSize": SIDE, "data.decodeSize": SIDE });
    const named: string[] = [];
    const reader = imageViews(dataset, config, (name) => named.push(name));
    const { views, held } = await reader.read(0, Int32Array.of(0));
    expect([held, views.images[0], views.keyImages?.[0]]).toEqual([[2], 20, 120]);
    expect(named).toEqual(["broken.png", "broken.png"]);
  });

  it("are inspected on both sides", async () => {
    const dataset = await open(`pairs:${writePhotos("counted.csv", "query,key", "q0.png,broken.png", ...rows(1))}`);
    const report = await inspectDataset(dataset, null, 10);
    expect(report).toMatchObject({
      modality: "image",
      splits: { train: { images: 2, labels: null, corrupt: [] }, test: { images: 0 } },
      keys: { train: { images: 2, corrupt: ["broken.png"], formats: { png: 1 } }, test: { images: 0 } },
    });
  });
});

describe("pairs of texts", () => {
  it("may hold commas, quotes and line breaks in CSV, and blank lines between", async () => {
    const path = folder.write("t.csv", '\uFEFFquery,key\r\n"a, ""b""",c\r\n\r\n"two\nlines", x \r\n');
    const { splits, keys } = await openTextPairs(`pairs:${path}`);
    expect([0, 1].map((index) => splits.train.text(index))).toEqual(['a, "b"', "two\nlines"]);
    expect([0, 1].map((index) => keys?.train.text(index))).toEqual(["c", "x"]);
    expect(splits.test.length).toBe(0);
  });

  it("give views of the query's tokens and of the key's", async () => {
    const path = folder.write("pairs.jsonl", jsonLines({ query: "the cat", key: "a dog" }, { query: "a", key: "the" }));
    const whole = { "augmentation.text.spanCrop.probability": 0, "augmentation.text.tokenDeletion": 0 };
    const config = await runConfig({ ...TEXT_ENCODER, ...whole, "data.spec": `pairs:${path}` });
    const dataset = await openRunDataset(config.data.spec, config);
    if (dataset.modality !== "text") expect.fail("it holds images");
    const { views } = await textViews(dataset, config).read(0, Int32Array.of(1, 0));
    const { splits, keys, frame, maxLength } = dataset;
    const row = (tokens: Int32Array | undefined) => {
      const filled = [...frame.before, ...(tokens ?? []), ...frame.after];
      return [...filled, ...new Array<number>(maxLength - filled.length).fill(-1)];
    };
    expect([...views.query.ids]).toEqual([1, 0].flatMap((index) => row(splits.train.tokens(index))));
    expect([...views.key.ids]).toEqual([1, 0].flatMap((index) => row(keys?.train.tokens(index))));
    expect(views.query.ids).not.toEqual(views.key.ids);
  });

  it("are refused to an encoder of images, and pairs of images to one of texts", async () => {
    const texts = `pairs:${folder.write("words.csv", "query,key\na,b\n")}`;
    const images = `pairs:${writePhotos("images.csv", "query,key", ...rows(0))}`;
    const [ofImages, ofTexts] = [await runConfig({}), await runConfig({ ...TEXT_ENCODER, "data.spec": texts })];
    await expect(openRunDataset(texts, ofImages)).rejects.toThrow("holds texts, and the encoder resnet-tiny");
    await expect(openRunDataset(images, ofTexts)).rejects.toThrow("holds images, and the encoder text-tiny");
  });
});

const TEXT_ENCODER = {
  ...{ "model.encoder": "text-tiny", "data.maxLength": 12, "moco.shuffle": "none" },
  "data.tokenizer": fileURLToPath(new URL("../../fixtures/tokenizer_wordpiece.json", import.meta.url)),
};

function fails(name: string): never {
  throw new Error(`${name} is not corrupt`);
}

function runConfig(overrides: Record<string, unknown>): Promise<RunConfig> {
  return resolveConfig({ preset: "quickstart", overrides });
}

describe("a file of pairs is refused in one line", () => {
  const files: readonly [name: string, content: string, code: string, message: string][] = [
    ["p.tsv", "query\tkey\n", "DATA_PAIRS_FORMAT", "must end in .csv or .jsonl"],
    ["empty.csv", "", "DATA_NO_PAIRS", 'empty.csv" holds no pairs'],
    ["head.csv", "query,key\n", "DATA_NO_PAIRS", 'head.csv" holds no pairs'],
    ["empty.jsonl", "\n", "DATA_NO_PAIRS", 'empty.jsonl" holds no pairs'],
    ["nokey.csv", "query,label\na,b\n", "DATA_MISSING_COLUMN", 'nokey.csv" names no column "key" (it names "query"'],
    ["short.csv", "query,key\na,b\nc\n", "DATA_BAD_RECORD", 'line 3 of "'],
    ["long.csv", "query,key\na,b,c\n", "DATA_BAD_RECORD", 'long.csv" has 3 fields, and the header 2 (query, key)'],
    ["open.csv", 'query,key\na,"b\n', "DATA_BAD_RECORD", "a double quote is open to the end"],
    ["quote.csv", 'query,key\na,b"c"\n', "DATA_BAD_RECORD", 'line 2 of "'],
    ["blank.csv", "query,key\na,\n", "DATA_BAD_RECORD", 'column "key" of line 2 of "'],
    ["no.jsonl", '{"query": "a"}\n', "DATA_BAD_RECORD", 'field "key" of line 1 of "'],
    ["cut.jsonl", '{"query": "a", "key": "b"}\n{"query": "a', "DATA_BAD_RECORD", 'line 2 of "'],
    ["list.jsonl", "[]", "DATA_BAD_RECORD", '{"query": "…", "key": "…"}'],
    ["mixed.csv", "query,key\na.png,a dog\n", "DATA_MIXED_PAIRS", "the query of line 2 of"],
    ["gone.csv", "query,key\nphotos/q0.png,gone.png\n", "DATA_UNREADABLE", 'key image "gone.png" of line 2 of "'],
    [
      "some.csv",
      "query,key,label\na,b,x\nc,d,\n",
      "DATA_MIXED_LABELS",
      "some.csv:2 has a label and some.csv:3 has none",
    ],
  ];
  it.each(files)("%s", async (name, content, code, message) => {
    await refused(`pairs:${folder.write(name, content)}`, code, message);
  });

  it.each([
    [() => `pairs:${folder.path}/none.csv`, "DATA_UNREADABLE", "(ENOENT): check the path"],
    [() => `pairs:${folder.write("latin.csv", Buffer.from("query,key\n\xe9,b", "latin1"))}`, "DATA_NOT_UTF8", "UTF-8"],
    [() => `pairs:${folder.write("one.csv", "query,key,label\na,b,x\n")},test=${folder.write("two.csv", "query,key,label\na,b,y\n")}`, "DATA_UNKNOWN_CLASS", 'two.csv:2 has the label "y", which no training pair has'], // prettier-ignore
    [() => "pairs:", "DATA_NO_PATH", "write pairs:FILE"],
    [() => "pairs:a.csv,key=b,key=c", "DATA_REPEATED_PARAMETER", 'gives "key" twice'],
  ])("%#", async (spec, code, message) => {
    await refused(spec(), code, message);
  });

  async function refused(spec: string, code: string, message: string): Promise<void> {
    const error: unknown = await open(spec).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "UserError", code });
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  }
});
