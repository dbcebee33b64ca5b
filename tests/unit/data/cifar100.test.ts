import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openImages } from "../../../src/data/open.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const RECORD = 3074;

/** `count` records; record `i` has coarse label `i mod 20`, fine label `i mod 100`, and the fill `(i + channel) mod 256` in each plane. */
function records(count: number): Uint8Array {
  const bytes = new Uint8Array(count * RECORD);
  for (let record = 0; record < count; record++) {
    const start = record * RECORD;
    bytes.set([record % 20, record % 100], start);
    for (let channel = 0; channel < 3; channel++) {
      bytes.fill(record + channel, start + 2 + 1024 * channel, start + 2 + 1024 * (channel + 1));
    }
  }
  return bytes;
}

const train = records(50_000);
const test = records(10_000);
const opening = (root: string) => openImages(`cifar100:${join(folder.path, root)}`, { decodeSize: 32 });

beforeAll(() => {
  folder.write("archive/cifar-100-binary/train.bin", train);
  folder.write("archive/cifar-100-binary/test.bin", test);
});

describe("CIFAR-100's binary version", () => {
  it("gives 50,000 and 10,000 pictures with their fine labels, from its own folder or the one above", async () => {
    const { classes, splits, manifestHash } = await opening("archive");
    expect((await opening("archive/cifar-100-binary")).manifestHash).toBe(manifestHash);
    expect([classes.length, new Set(classes).size]).toEqual([100, 100]);
    // Alphabetical, as in fine_label_names.txt.
    expect([classes[0], classes[47], classes[99]]).toEqual(["apple", "maple_tree", "worm"]);
    expect([...classes]).toEqual([...classes].sort());
    expect([splits.train.length, splits.test.length]).toEqual([50_000, 10_000]);
    // Coarse 17, fine 37.
    expect([splits.train.labels[49_937], splits.test.labels[237]]).toEqual([37, 37]);
    expect(splits.test.nameOf(237)).toBe("cifar100 test 237");
    const pixels = new Uint8Array(3072 + 2);
    await splits.test.read(237, pixels, 1);
    expect([...pixels.subarray(1, 7)]).toEqual([237, 238, 239, 237, 238, 239]);
    expect([pixels[0], pixels[3073], pixels[3072]]).toEqual([0, 0, 239]);
  });

  it("is refused where a file is missing, of the wrong size, or with a fine label past 99", async () => {
    folder.write("broken/train.bin", train.subarray(1));
    await expect(opening("broken")).rejects.toMatchObject({
      code: "DATA_WRONG_SIZE",
      message: expect.stringMatching(/CIFAR-100 file ".*train\.bin" has 153699999 bytes, not 153700000/),
    });
    folder.write("broken/train.bin", train);
    await expect(opening("broken")).rejects.toMatchObject({
      code: "DATA_MISSING_FILE",
      message: expect.stringContaining("test.bin"),
    });
    const bad = test.slice();
    bad[7 * RECORD + 1] = 100;
    folder.write("broken/test.bin", bad);
    await expect(opening("broken")).rejects.toMatchObject({
      code: "DATA_BAD_LABEL",
      message: expect.stringContaining("label 100 in record 7"),
    });
  });
});
