import { rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { CorruptSampleError, type ImageSource } from "../../../src/data/dataset.js";
import { openImages } from "../../../src/data/open.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 8;

/** `[8, 8, 3]` noise that no codec keeps by chance. */
const noise = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => (i * 7919 + ((i * i) % 251)) % 256);
let png: Buffer;

beforeAll(async () => {
  png = await picture(noise, SIDE, SIDE).png().toBuffer();
});

function picture(pixels: Uint8Array, width: number, height: number, channels: 1 | 2 | 3 | 4 = 3) {
  return sharp(pixels, { raw: { width, height, channels } });
}

function plain(red: number, green: number, blue: number, width = SIDE, height = SIDE) {
  return sharp({ create: { width, height, channels: 3, background: { r: red, g: green, b: blue } } });
}

async function readOne(source: ImageSource, index: number, side = SIDE): Promise<Uint8Array> {
  const pixels = new Uint8Array(side * side * 3);
  await source.read(index, pixels, 0);
  return pixels;
}

/** Decodes one file through the folder data set. */
async function decoded(name: string, content: Uint8Array | string, side = SIDE): Promise<Uint8Array> {
  const root = `decoding/${name}`;
  folder.write(`${root}/${name}`, content);
  const dataset = await openImages(`folder:${join(folder.path, root)}`, { decodeSize: side });
  return readOne(dataset.splits.train, 0, side);
}

describe("the listing of a folder", () => {
  it("orders classes, then files, by the bytes of their names, and labels them by class", async () => {
    for (const name of [
      "b/2.png",
      "b/10.png",
      "a/x.PNG",
      "Z/é.png",
      "Z/z.png",
      "a/notes.txt",
      ".cache/a.png",
      "a/._x.png",
    ]) {
      folder.write(`order/train/${name}`, png);
    }
    folder.write("order/test/b/0.png", png);
    const { classes, splits } = await openImages(`folder:${join(folder.path, "order")}`, { decodeSize: SIDE });
    expect(classes).toEqual(["Z", "a", "b"]);
    const names = Array.from({ length: splits.train.length }, (_, index) => splits.train.nameOf(index));
    expect(names).toEqual(["train/Z/z.png", "train/Z/é.png", "train/a/x.PNG", "train/b/10.png", "train/b/2.png"]);
    expect([...splits.train.labels]).toEqual([0, 0, 1, 2, 2]);
    expect(splits.test.nameOf(0)).toBe("test/b/0.png");
    expect([...splits.test.labels]).toEqual([2]);
  });

  it("orders names past the basic plane by bytes too, unlike JavaScript's own order", async () => {
    for (const name of ["\u{1f600}.png", "\uff5e.png"]) folder.write(`astral/${name}`, png);
    const { splits } = await openImages(`folder:${join(folder.path, "astral")}`, { decodeSize: SIDE });
    expect([splits.train.nameOf(0), splits.train.nameOf(1)]).toEqual(["\uff5e.png", "\u{1f600}.png"]);
  });

  it("trains on all of a folder without train and test, by class", async () => {
    folder.write("flat/cat/0.png", png);
    folder.write("flat/dog/0.png", png);
    const { classes, splits } = await openImages(`folder:${join(folder.path, "flat")}`, { decodeSize: SIDE });
    expect(classes).toEqual(["cat", "dog"]);
    expect([...splits.train.labels]).toEqual([0, 1]);
    expect(splits.test.length).toBe(0);
  });

  it("labels −1 where only images lie in the folder", async () => {
    folder.write("bare/1.png", png);
    folder.write("bare/0.webp", png);
    const { classes, splits } = await openImages(`folder:${join(folder.path, "bare")}`, { decodeSize: SIDE });
    expect(classes).toEqual([]);
    expect([...splits.train.labels]).toEqual([-1, -1]);
    expect(splits.train.nameOf(0)).toBe("0.webp");
  });

  it("follows a linked class folder", async () => {
    const target = join(folder.path, "elsewhere");
    folder.write("elsewhere/0.png", png);
    folder.write("linked/train/a/0.png", png);
    symlinkSync(target, join(folder.path, "linked/train/b"));
    const { classes } = await openImages(`folder:${join(folder.path, "linked")}`, { decodeSize: SIDE });
    expect(classes).toEqual(["a", "b"]);
  });

  it("hashes the same under another path, and otherwise with another name, label or size", async () => {
    const hashOf = async (root: string, files: readonly string[], content: Uint8Array | string = "12345") => {
      for (const file of files) folder.write(`${root}/${file}`, content);
      return (await openImages(`folder:${join(folder.path, root)}`, { decodeSize: SIDE })).manifestHash;
    };
    const first = await hashOf("hash/0", ["train/a/0.png", "train/b/0.png"]);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf("hash/1", ["train/a/0.png", "train/b/0.png"], "54321")).toBe(first);
    const others = [
      await hashOf("hash/2", ["train/a/0.png", "train/b/1.png"]),
      await hashOf("hash/3", ["train/a/0.png", "train/b/0.png", "train/c/0.png"]),
      await hashOf("hash/4", ["train/a/0.png", "train/b/0.png"], "123456"),
      await hashOf("hash/5", ["train/a/0.png", "train/b/0.png", "test/a/0.png"]),
      await hashOf("hash/6", ["a/0.png", "b/0.png"]),
    ];
    expect(new Set([first, ...others]).size).toBe(6);
  });

  it.each([
    ["missing", [], "DATA_MISSING_FOLDER", "missing"],
    ["none", ["train/readme.txt"], "DATA_NO_IMAGES", "none/train"],
    ["hole", ["train/a/0.png", "train/b/readme.txt"], "DATA_EMPTY_CLASS", "hole/train/b"],
    ["mixed", ["train/a/0.png", "train/0.png"], "DATA_MIXED_FOLDER", "0.png"],
    ["stranger", ["train/a/0.png", "test/b/0.png"], "DATA_UNKNOWN_CLASS", "test/b"],
    ["hollow", ["train/a/0.png", "test/a/readme.txt"], "DATA_EMPTY_CLASS", "hollow/test/a"],
  ])("refuses the folder %j", async (root, files, code, part) => {
    for (const file of files) folder.write(`refused/${root}/${file}`, png);
    const opening = openImages(`folder:${join(folder.path, "refused", root)}`, { decodeSize: SIDE });
    await expect(opening).rejects.toMatchObject({ name: "UserError", code, message: expect.stringContaining(part) });
  });
});

it("refuses a link that leads nowhere", async () => {
  folder.write("dangling/0.png", png);
  symlinkSync(join(folder.path, "nowhere.png"), join(folder.path, "dangling/1.png"));
  const opening = openImages(`folder:${join(folder.path, "dangling")}`, { decodeSize: SIDE });
  await expect(opening).rejects.toMatchObject({ name: "UserError", code: "DATA_UNREADABLE" });
});

describe("decoding", () => {
  it("leaves a picture of the decode size exactly as it is", async () => {
    expect(await decoded("exact.png", png)).toEqual(noise);
  });

  it("gives a JPEG of the decode size exactly as its decoder does", async () => {
    const jpeg = await picture(noise, SIDE, SIDE).jpeg({ quality: 90 }).toBuffer();
    expect(await decoded("exact.jpg", jpeg)).toEqual(new Uint8Array(await sharp(jpeg).raw().toBuffer()));
  });

  it("writes at the offset and nowhere else", async () => {
    folder.write("offset/0.png", png);
    const { splits } = await openImages(`folder:${join(folder.path, "offset")}`, { decodeSize: SIDE });
    const target = new Uint8Array(noise.length + 20).fill(255);
    await splits.train.read(0, target, 10);
    expect(target.subarray(10, -10)).toEqual(noise);
    expect([...target.subarray(0, 10), ...target.subarray(-10)]).toEqual(new Array(20).fill(255));
  });

  it("scales the shorter side and cuts the middle", async () => {
    // Three upright bands of 16 pixels; the middle one alone is within the centre square.
    const bands = new Uint8Array(48 * 16 * 3);
    for (let pixel = 0; pixel < 48 * 16; pixel++) bands[3 * pixel + Math.floor((pixel % 48) / 16)] = 200;
    const pixels = await decoded("bands.png", await picture(bands, 48, 16).png().toBuffer());
    // Where bands meet, the filter mixes them, alike on both sides.
    const rowOfEight = [25, 175, 0, ...new Array(6).fill([0, 200, 0]).flat(), 0, 175, 25];
    for (let row = 0; row < SIDE; row++) expect([...pixels.subarray(row * 24, row * 24 + 24)]).toEqual(rowOfEight);
  });

  it("enlarges a smaller picture", async () => {
    expect(await decoded("small.png", await plain(10, 20, 30, 3, 2).png().toBuffer())).toEqual(filled(10, 20, 30));
  });

  it("turns a picture upright by its EXIF tag", async () => {
    // Orientation 6: what is stored on the left belongs on top.
    const halves = new Uint8Array(SIDE * SIDE * 3);
    for (let pixel = 0; pixel < SIDE * SIDE; pixel++) if (pixel % SIDE < SIDE / 2) halves[3 * pixel] = 255;
    const png6 = await picture(halves, SIDE, SIDE).withMetadata({ orientation: 6 }).png().toBuffer();
    const red = (await decoded("turned.png", png6)).filter((_, i) => i % 3 === 0);
    expect([...red]).toEqual([...new Array(32).fill(255), ...new Array(32).fill(0)]);
  });

  it("makes three equal channels of a gray picture, with 8 bits or 16", async () => {
    const gray = Uint8Array.from({ length: 64 }, (_, i) => 4 * i);
    const expected = Uint8Array.from({ length: 192 }, (_, i) => 4 * Math.floor(i / 3));
    const eight = picture(gray, SIDE, SIDE, 1).toColourspace("b-w");
    expect(await decoded("gray.png", await eight.png().toBuffer())).toEqual(expected);
    const wide = Uint16Array.from(gray, (value) => value * 257);
    const sixteen = sharp(wide, { raw: { width: SIDE, height: SIDE, channels: 1 } }).toColourspace("grey16");
    const bytes = await sixteen.png().toBuffer();
    expect((await sharp(bytes).metadata()).depth).toBe("ushort");
    expect(await decoded("gray16.png", bytes)).toEqual(expected);
  });

  it("takes the high 8 of 16 bits in colour", async () => {
    const wide = Uint16Array.from(noise, (value) => value * 257);
    const bytes = await sharp(wide, { raw: { width: SIDE, height: SIDE, channels: 3 } })
      .toColourspace("rgb16")
      .png()
      .toBuffer();
    expect((await sharp(bytes).metadata()).depth).toBe("ushort");
    expect(await decoded("rgb16.png", bytes)).toEqual(noise);
  });

  it("looks palette colours up", async () => {
    const two = Uint8Array.from({ length: 192 }, (_, i) => (i % 2 === 0 ? 12 : 210));
    const bytes = await picture(two, SIDE, SIDE).png({ palette: true }).toBuffer();
    expect((await sharp(bytes).metadata()).isPalette).toBe(true);
    expect(await decoded("palette.png", bytes)).toEqual(two);
  });

  it("lays transparency over white", async () => {
    const clear = new Uint8Array(SIDE * SIDE * 4);
    expect(await decoded("clear.png", await picture(clear, SIDE, SIDE, 4).png().toBuffer())).toEqual(
      filled(255, 255, 255),
    );
    const half = Uint8Array.from({ length: SIDE * SIDE * 4 }, (_, i) => (i % 4 === 3 ? 51 : 0));
    expect(await decoded("half.png", await picture(half, SIDE, SIDE, 4).png().toBuffer())).toEqual(
      filled(204, 204, 204),
    );
  });

  it("converts CMYK to RGB", async () => {
    const bytes = await plain(255, 255, 255).toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer();
    expect((await sharp(bytes).metadata()).space).toBe("cmyk");
    for (const value of await decoded("cmyk.jpg", bytes)) expect(value).toBeGreaterThanOrEqual(253);
  });

  it("calls truncated, empty and foreign files corrupt, by their name within the folder", async () => {
    const photo = await picture(
      new Uint8Array(64 * 64 * 3).map((_, i) => (i * 31) % 256),
      64,
      64,
    )
      .jpeg()
      .toBuffer();
    folder.write("corrupt/a/1-truncated.jpg", photo.subarray(0, photo.length / 2));
    folder.write("corrupt/a/2-empty.jpg", "");
    folder.write("corrupt/a/3-text.jpg", "no picture");
    folder.write("corrupt/a/4-truncated.png", png.subarray(0, png.length - 40));
    const { splits } = await openImages(`folder:${join(folder.path, "corrupt")}`, { decodeSize: SIDE });
    for (const [index, name] of ["1-truncated.jpg", "2-empty.jpg", "3-text.jpg", "4-truncated.png"].entries()) {
      const error = await readOne(splits.train, index).then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(CorruptSampleError);
      expect(error).toMatchObject({ sampleName: `a/${name}` });
    }
  });

  it("does not call a file corrupt that is gone: that is this machine's fault", async () => {
    const file = folder.write("gone/0.png", png);
    const { splits } = await openImages(`folder:${join(folder.path, "gone")}`, { decodeSize: SIDE });
    rmSync(file);
    await expect(readOne(splits.train, 0)).rejects.toMatchObject({ name: "UserError", code: "DATA_UNREADABLE" });
  });
});

function filled(red: number, green: number, blue: number): Uint8Array {
  return Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => [red, green, blue][i % 3]);
}
