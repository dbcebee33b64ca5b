import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { CorruptSampleError, type ImageSource } from "../../../src/data/dataset.js";
import { openImages } from "../../../src/data/open.js";
import { type Files, writeTar } from "./system-tar.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 8;
const PIXELS = Array.from({ length: 4 }, (_, picture) =>
  Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => (i * 7919 + picture * 101 + ((i * i) % 251)) % 256),
);
let pngs: Buffer[];

beforeAll(async () => {
  pngs = await Promise.all(
    PIXELS.map((pixels) =>
      sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .png()
        .toBuffer(),
    ),
  );
});

const shard = (name: string, files: Files) => writeTar(join(folder.path, name), files);
const opening = (spec: string) => openImages(`webdataset:${join(folder.path, spec)}`, { decodeSize: SIDE });

async function readOne(source: ImageSource, index: number): Promise<Uint8Array> {
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  await source.read(index, pixels, 0);
  return pixels;
}

function namesOf(source: ImageSource): string[] {
  return Array.from({ length: source.length }, (_, index) => source.nameOf(index));
}

/** Two training shards and one test shard in a folder. */
function writeShards(root: string): void {
  shard(`${root}/train-000000.tar`, [
    ["x/0.png", pngs[0]],
    ["x/0.cls", "2\n"],
    ["x/0.txt", "a caption"],
    ["1.PNG", pngs[1]],
    ["1.json", '{"label": 0, "more": [1]}'],
  ]);
  shard(`${root}/train-000001.tar`, [
    ["2.cls", "1"],
    ["2.png", pngs[2]],
    ["2.seg.png", "no picture, and none of the sample's"],
  ]);
  shard(`${root}/test-000000.tar`, [
    ["2.png", pngs[3]],
    ["2.json", '{"cls": 1}'],
  ]);
}

describe("tar shards", () => {
  it("give the pictures of a folder's shards with labels, read by position", async () => {
    writeShards("both");
    const { classes, splits } = await opening("both");
    expect(classes).toEqual(["0", "1", "2"]);
    expect([...splits.train.labels]).toEqual([2, 0, 1]);
    expect([...splits.test.labels]).toEqual([1]);
    expect(namesOf(splits.train)).toEqual([
      "train-000000.tar/x/0.png",
      "train-000000.tar/1.PNG",
      "train-000001.tar/2.png",
    ]);
    for (const index of [0, 1, 2]) expect(await readOne(splits.train, index)).toEqual(PIXELS[index]);
    expect(await readOne(splits.test, 0)).toEqual(PIXELS[3]);
  });

  it("are named by brace ranges too, the test split behind a comma", async () => {
    writeShards("ranges");
    const { splits } = await opening(
      `ranges/train-{000000..000001}.tar,test=${join(folder.path, "ranges/test-{000000..000000}.tar")}`,
    );
    const whole = await opening("ranges");
    expect(namesOf(splits.train)).toEqual(namesOf(whole.splits.train));
    expect(splits.test.length).toBe(1);
    const { splits: turned } = await opening("ranges/train-{000001,000000}.tar");
    expect(namesOf(turned.train)[0]).toBe("train-000001.tar/2.png");
    expect(turned.test.length).toBe(0);
    expect((await opening("ranges/test-000000.tar")).splits.train.length).toBe(1);
  });

  it("may lie in train/ and test/, or without a split's name", async () => {
    shard("folders/train/b.tar", [["b.png", pngs[0]]]);
    shard("folders/train/a.tar", [["a.png", pngs[1]]]);
    shard("folders/test/a.tar", [["a.png", pngs[2]]]);
    const { classes, splits } = await opening("folders");
    expect(classes).toEqual([]);
    expect(namesOf(splits.train)).toEqual(["a.tar/a.png", "b.tar/b.png"]);
    expect([...splits.train.labels, ...splits.test.labels]).toEqual([-1, -1, -1]);
    shard("bare/cc3m-1.tar", [["a.png", pngs[1]]]);
    expect((await opening("bare")).splits.train.length).toBe(1);
  });

  it("hash the same under another path, and otherwise with another key, label, size, split or order", async () => {
    const hashOf = async (root: string, files: Files, split = "train") => {
      shard(`hash/${root}/train-0.tar`, [
        ["z.png", "z"],
        ["z.cls", "3"],
      ]);
      shard(`hash/${root}/${split}-1.tar`, files);
      return (await opening(`hash/${root}`)).manifestHash;
    };
    const files: Files = [
      ["a.png", "12345"],
      ["a.cls", "1"],
    ];
    const first = await hashOf("0", files);
    expect(
      await hashOf("1", [
        ["a.png", "54321"],
        ["a.cls", "1"],
      ]),
    ).toBe(first);
    const others = [
      await hashOf("2", [
        ["b.png", "12345"],
        ["b.cls", "1"],
      ]),
      await hashOf("3", [
        ["a.png", "12345"],
        ["a.cls", "2"],
      ]),
      await hashOf("4", [
        ["a.png", "123456"],
        ["a.cls", "1"],
      ]),
      await hashOf("5", files, "test"),
      (await opening("hash/0/train-{1,0}.tar")).manifestHash,
    ];
    expect(new Set([first, ...others]).size).toBe(6);
  });

  it("call a picture that cannot be decoded corrupt, by shard and name", async () => {
    shard("corrupt.tar", [
      ["a.png", pngs[0].subarray(0, pngs[0].length - 40)],
      ["b.jpg", ""],
      ["c.png", pngs[1]],
    ]);
    const { splits } = await opening("corrupt.tar");
    for (const [index, name] of ["a.png", "b.jpg"].entries()) {
      const error = await readOne(splits.train, index).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(CorruptSampleError);
      expect(error).toMatchObject({ sampleName: `corrupt.tar/${name}` });
    }
    expect(await readOne(splits.train, 2)).toEqual(PIXELS[1]);
  });

  it("do not call a picture corrupt whose shard became shorter: that is this machine's fault", async () => {
    const path = shard("shrinking.tar", [["a.png", pngs[0]]]);
    const { splits } = await opening("shrinking.tar");
    truncateSync(path, 600);
    await expect(readOne(splits.train, 0)).rejects.toMatchObject({ name: "UserError", code: "DATA_UNREADABLE" });
  });

  const label = (text: string, extension = "cls"): Files => [
    ["a.png", "."],
    [`a.${extension}`, text],
  ];
  it.each<[string, Files, string, string]>([
    [
      "key apart",
      [
        ["a.png", "."],
        ["b.png", "."],
        ["a.cls", "1"],
      ],
      "DATA_DUPLICATE_KEY",
      'the key "a" again',
    ],
    [
      "extension twice",
      [
        ["a.png", "."],
        ["a.PNG", "."],
      ],
      "DATA_DUPLICATE_KEY",
      "two files .png",
    ],
    [
      "no picture",
      [
        ["a.png", "."],
        ["b.cls", "1"],
      ],
      "DATA_NO_IMAGE",
      'for the key "b", only .cls',
    ],
    [
      "two pictures",
      [
        ["a.png", "."],
        ["a.jpg", "."],
      ],
      "DATA_TWO_IMAGES",
      ".png and .jpg",
    ],
    [
      "mixed",
      [
        ["a.png", "."],
        ["b.png", "."],
        ["b.cls", "1"],
      ],
      "DATA_MIXED_LABELS",
      "b.png",
    ],
    ["word", label("cat"), "DATA_BAD_LABEL", 'the label "cat" in "a.cls"'],
    ["negative", label("-1"), "DATA_BAD_LABEL", '"-1"'],
    ["nothing", label(""), "DATA_BAD_LABEL", '""'],
    ["huge", label("1000000"), "DATA_BAD_LABEL", "0 to 999999"],
    ["half", label('{"label":1.5}', "json"), "DATA_BAD_LABEL", "1.5"],
    ["null", label('{"cls":null}', "json"), "DATA_BAD_LABEL", "null"],
    ["list", label("[1", "json"), "DATA_BAD_LABEL", '"[1" in "a.json"'],
    ["no member", [["readme", "."]], "DATA_NO_IMAGES", "no samples"],
  ])("are refused: %s", async (name, files, code, part) => {
    shard(`refused/${name}.tar`, files);
    const error = await opening(`refused/${name}.tar`).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: "UserError", code, message: expect.stringContaining(part) });
  });

  it("are refused where one is missing, cut short, or none", async () => {
    writeShards("some");
    const path = shard("some/train-000003.tar", [
      ["9.png", "."],
      ["9.cls", "1"],
    ]);
    await expect(opening("some/train-{000000..000003}.tar")).rejects.toMatchObject({
      code: "DATA_MISSING_SHARD",
      message: expect.stringContaining('train-000002.tar" cannot be read (ENOENT)'),
    });
    folder.write("some/train-000003.tar", readFileSync(path).subarray(0, 700));
    await expect(opening("some")).rejects.toMatchObject({
      code: "DATA_BAD_SHARD",
      message: expect.stringMatching(/train-000003\.tar" is cut short/),
    });
    folder.write("nothing/readme.txt", "");
    await expect(opening("nothing")).rejects.toMatchObject({ code: "DATA_NO_SHARDS" });
    await expect(opening("some/train-{0..200000}.tar")).rejects.toMatchObject({ code: "DATA_BAD_PATTERN" });
    await expect(openImages("webdataset:https://h/{0..1}.tar", { decodeSize: SIDE })).rejects.toMatchObject({
      code: "DATA_BAD_PATTERN",
    });
  });

  it("are refused where two share a key, or a test label has no training class", async () => {
    shard("twice/train-0.tar", [["a.png", "."]]);
    shard("twice/train-1.tar", [["a.png", "."]]);
    await expect(opening("twice")).rejects.toMatchObject({
      code: "DATA_DUPLICATE_KEY",
      message: expect.stringMatching(/train-0\.tar" and ".*train-1\.tar" both have the key "a"/),
    });
    shard("stranger/train-0.tar", label("1"));
    shard("stranger/test-0.tar", label("2"));
    await expect(opening("stranger")).rejects.toMatchObject({
      code: "DATA_UNKNOWN_CLASS",
      message: expect.stringContaining("label 2"),
    });
  });
});
