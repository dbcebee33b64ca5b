import { join } from "node:path";
import { truncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ImageSource } from "../../../src/data/dataset.js";
import { labelledLength } from "../../../src/data/dataset.js";
import { inspectDataset } from "../../../src/data/inspect.js";
import { nativeSide } from "../../../src/data/native-size.js";
import { openImages } from "../../../src/data/open.js";
import { parseDataSpec } from "../../../src/data/spec.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 96;
const RECORD = 3 * SIDE * SIDE;

/** Of picture `index`: red counts columns, green rows, and blue is `100 + index + shift`. As the archive has it: channel, column, row. */
function pictures(count: number, shift: number): Uint8Array {
  const bytes = new Uint8Array(count * RECORD);
  for (let index = 0; index < count; index++) {
    for (let column = 0; column < SIDE; column++) {
      for (let row = 0; row < SIDE; row++) {
        const at = index * RECORD + column * SIDE + row;
        bytes[at] = column;
        bytes[at + SIDE * SIDE] = row;
        bytes[at + 2 * SIDE * SIDE] = 100 + index + shift;
      }
    }
  }
  return bytes;
}

/** Two labelled pictures, three unlabelled ones and one to test. */
function writeArchive(root: string): string {
  folder.write(`${root}/train_X.bin`, pictures(2, 0));
  folder.write(`${root}/train_y.bin`, Uint8Array.of(10, 1));
  folder.write(`${root}/unlabeled_X.bin`, pictures(3, 50));
  folder.write(`${root}/test_X.bin`, pictures(1, 90));
  folder.write(`${root}/test_y.bin`, Uint8Array.of(4));
  return join(folder.path, root);
}

async function square(source: ImageSource, index: number, side = SIDE): Promise<Uint8Array> {
  const target = new Uint8Array(side * side * 3 + 1);
  await source.read(index, target, 1);
  return target.subarray(1);
}

const open = (rest: string, decodeSize = SIDE) => openImages(`stl10:${rest}`, { decodeSize });

describe("STL-10's binary files", () => {
  it("train with labelled pictures before unlabelled ones, upright and channels last", async () => {
    const path = writeArchive("archive/stl10_binary");
    const { classes, splits, manifestHash } = await open(join(folder.path, "archive"));
    expect((await open(path)).manifestHash).toBe(manifestHash);
    expect([...splits.train.labels]).toEqual([9, 0, -1, -1, -1]);
    expect([...splits.test.labels].map((label) => classes[label])).toEqual(["cat"]);
    expect(labelledLength(splits.train)).toBe(2);
    expect([1, 2].map((index) => splits.train.nameOf(index))).toEqual(["stl10 train 1", "stl10 unlabeled 0"]);
    const pixel = (pixels: Uint8Array, row: number, column: number) =>
      [...pixels.subarray(3 * (row * SIDE + column))].slice(0, 3);
    expect(pixel(await square(splits.train, 1), 7, 40)).toEqual([40, 7, 101]);
    expect(pixel(await square(splits.train, 4), 95, 2)).toEqual([2, 95, 152]);
    expect(pixel(await square(splits.test, 0), 0, 95)).toEqual([95, 0, 190]);
    const small = await square((await open(path, 48)).splits.train, 1, 48);
    expect(small).toHaveLength(48 * 48 * 3);
    expect([...small.subarray(3 * 20 * 48, 3 * 20 * 48 + 3)]).toEqual([1, 41, 101]);
    expect(nativeSide(parseDataSpec(`stl10:${path}`))).toBe(SIDE);
  });

  it("train with the labelled or the unlabelled ones alone where that is asked for", async () => {
    const path = writeArchive("parts");
    const labelled = await open(`${path},split=train`);
    expect([...labelled.splits.train.labels]).toEqual([9, 0]);
    const unlabelled = await open(`${path},split=unlabeled`);
    expect([unlabelled.classes, ...unlabelled.splits.train.labels]).toEqual([[], -1, -1, -1]);
    expect([...unlabelled.splits.test.labels]).toEqual([-1]);
    const hashes = [labelled, unlabelled, await open(path)].map(({ manifestHash }) => manifestHash);
    expect(new Set(hashes).size).toBe(3);
  });

  it("are counted by an inspection, by their labels", async () => {
    const report = await inspectDataset(await open(writeArchive("counted")), SIDE, 2);
    expect(report.splits.train).toMatchObject({ images: 5, labels: { airplane: 1, bird: 0, truck: 1 }, looked: 2 });
    expect(report.splits.test).toMatchObject({ images: 1, labels: { cat: 1 }, formats: { pixels: 1 } });
  });

  it("are refused in one line where the folder or a file is missing, too short, or wrong", async () => {
    const refused = async (rest: string, code: string, message: string) => {
      const error: unknown = await open(rest).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: "UserError", code });
      expect((error as Error).message).toContain(message);
      expect((error as Error).message).not.toContain("\n");
    };
    await refused(join(folder.path, "nowhere"), "DATA_MISSING_FOLDER", "does not exist");
    await refused("", "DATA_NO_PATH", "write stl10:PATH");
    await refused("x,split=test", "DATA_BAD_PARAMETER", "give one of train, unlabeled, train+unlabeled");
    folder.write("partly/train_X.bin", pictures(1, 0));
    await refused(join(folder.path, "partly"), "DATA_MISSING_FILE", 'train_y.bin" cannot be read (ENOENT)');
    const path = writeArchive("broken");
    truncateSync(join(path, "unlabeled_X.bin"), RECORD - 1);
    await refused(path, "DATA_WRONG_SIZE", `unlabeled_X.bin" has ${String(RECORD - 1)} bytes`);
    await refused(`${path},split=train,split=train`, "DATA_REPEATED_PARAMETER", 'gives "split" twice');
    const { splits } = await open(`${path},split=train`);
    folder.write("broken/train_y.bin", Uint8Array.of(10, 11));
    await refused(path, "DATA_BAD_LABEL", 'train_y.bin" has label 11 at place 1');
    folder.write("broken/train_y.bin", Uint8Array.of(1));
    await refused(path, "DATA_WRONG_SIZE", 'train_y.bin" has 1 labels for 2 pictures');
    truncateSync(join(path, "train_X.bin"), RECORD + 1);
    await expect(square(splits.train, 1)).rejects.toMatchObject({ code: "DATA_UNREADABLE" });
  });
});
