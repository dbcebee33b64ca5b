import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImages } from "../../../src/data/open.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const RECORD = 3073;
const FILES = [
  "data_batch_1.bin",
  "data_batch_2.bin",
  "data_batch_3.bin",
  "data_batch_4.bin",
  "data_batch_5.bin",
  "test_batch.bin",
];

/** A batch whose record `i` has label `(i + number) mod 10`, and whose pixel `p` of channel `c` is `(i + p + 50·c + number) mod 256`. */
function batchFile(number: number): Uint8Array {
  const bytes = new Uint8Array(10_000 * RECORD);
  for (let record = 0; record < 10_000; record++) {
    bytes[record * RECORD] = (record + number) % 10;
    for (let i = 0; i < 3072; i++) {
      bytes[record * RECORD + 1 + i] = record + (i % 1024) + 50 * Math.floor(i / 1024) + number;
    }
  }
  return bytes;
}

function writeBatches(root: string): string {
  FILES.forEach((name, number) => folder.write(`${root}/${name}`, batchFile(number)));
  return join(folder.path, root);
}

describe("CIFAR-10's binary batches", () => {
  it("become one split of 50,000 and one of 10,000, channels last, with the folder above them given or their own", async () => {
    const inner = writeBatches("archive/cifar-10-batches-bin");
    const outer = await openImages(`cifar10:${join(folder.path, "archive")}`, { decodeSize: 32 });
    const { classes, splits, manifestHash } = await openImages(`cifar10:${inner}`, { decodeSize: 32 });
    expect(manifestHash).toBe(outer.manifestHash);
    expect(classes[3]).toBe("cat");
    expect([splits.train.length, splits.test.length]).toEqual([50_000, 10_000]);
    expect([splits.train.labels[20_003], splits.test.labels[7]]).toEqual([5, 2]);
    const pixels = new Uint8Array(3072 + 2);
    await splits.train.read(20_003, pixels, 1);
    // Record 3 of file 2, row 1, column 4: pixel 36.
    expect([...pixels.subarray(1 + 3 * 36, 4 + 3 * 36)]).toEqual([41, 91, 141]);
    expect([pixels[0], pixels[3073]]).toEqual([0, 0]);
    const { splits: larger } = await openImages(`cifar10:${inner}`, { decodeSize: 64 });
    const enlarged = new Uint8Array(64 * 64 * 3);
    await larger.test.read(9_999, enlarged, 0);
    expect(enlarged.some((value) => value > 0)).toBe(true);
  });

  it("are refused where the folder or a file is missing, of the wrong size, or with a label past 9", async () => {
    const opening = (root: string) => openImages(`cifar10:${join(folder.path, root)}`, { decodeSize: 32 });
    await expect(opening("nowhere")).rejects.toMatchObject({ name: "UserError", code: "DATA_MISSING_FOLDER" });
    folder.write("empty/readme.txt", "");
    await expect(opening("empty")).rejects.toMatchObject({
      code: "DATA_MISSING_FILE",
      message: expect.stringContaining("data_batch_1.bin"),
    });
    writeBatches("broken");
    folder.write("broken/data_batch_4.bin", batchFile(3).subarray(1));
    await expect(opening("broken")).rejects.toMatchObject({
      code: "DATA_WRONG_SIZE",
      message: expect.stringMatching(/data_batch_4\.bin" has 30729999 bytes, not 30730000/),
    });
    const bad = batchFile(3);
    bad[5 * RECORD] = 10;
    folder.write("broken/data_batch_4.bin", bad);
    await expect(opening("broken")).rejects.toMatchObject({
      code: "DATA_BAD_LABEL",
      message: expect.stringContaining("label 10 in record 5"),
    });
  });
});
