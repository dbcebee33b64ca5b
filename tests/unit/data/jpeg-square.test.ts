/** JPEGs on their short way: the triangle filter as it is defined, and whatever is not plain goes the long way. */
import sharp, { type OutputInfo, type Sharp } from "sharp";
import { describe, expect, it } from "vitest";
import { decodeSquare } from "../../../src/data/decode.js";
import { decodeJpegSquare } from "../../../src/data/jpeg-square.js";

/** Blots in all colours, from an integer hash. @param blots along a side */
function picture(width: number, height: number, blots = 24): Sharp {
  const noise = (side: number) => {
    const bytes = new Uint8Array(side * side * 3);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (Math.imul(i + side, 0x9e3779b1) >>> 13) & 255;
    return sharp(bytes, { raw: { width: side, height: side, channels: 3 } });
  };
  return noise(blots).resize(width, height, { fit: "fill", kernel: "cubic" });
}

/** The middle of an RGB picture, by the filter's definition, in float64. */
function scaled({ data, info }: { data: Uint8Array; info: OutputInfo }, side: number): Float64Array {
  const from = Math.min(info.width, info.height);
  const [left, top] = [(info.width - from) >> 1, (info.height - from) >> 1];
  const scale = from / side;
  const reach = Math.max(1, scale);
  const weights = Array.from({ length: side }, (_, i) => {
    const row = Array.from({ length: from }, (__, at) =>
      Math.max(0, 1 - Math.abs(at + 0.5 - (i + 0.5) * scale) / reach),
    );
    const sum = row.reduce((total, weight) => total + weight, 0);
    return row.map((weight) => weight / sum);
  });
  const result = new Float64Array(side * side * 3);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let v = 0; v < from; v++) {
        if (weights[y][v] === 0) continue;
        for (let u = 0; u < from; u++) {
          const weight = weights[y][v] * weights[x][u];
          if (weight === 0) continue;
          const at = ((top + v) * info.width + left + u) * 3;
          for (let channel = 0; channel < 3; channel++)
            result[(y * side + x) * 3 + channel] += weight * data[at + channel];
        }
      }
  return result;
}

function greatestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((greatest, value, i) => Math.max(greatest, Math.abs(value - b[i])), 0);
}

/** A whole grey baseline JPEG, sampled so: Huffman tables of one code each, "0", so that a block is two zero bits. */
function flat(width: number, height: number, sampling: readonly number[]): Buffer {
  const segment = (marker: number, ...bytes: number[]) => [0xff, marker, 0, bytes.length + 2, ...bytes];
  const two = (value: number) => [value >> 8, value & 255];
  const [across, down] = [4, 0].map((shift) => Math.max(...sampling.map((factors) => (factors >> shift) & 15)));
  const units = Math.ceil(width / (8 * across)) * Math.ceil(height / (8 * down));
  const blocks = units * sampling.reduce((sum, factors) => sum + (factors >> 4) * (factors & 15), 0);
  const oneCode = [1, ...Array.from({ length: 15 }, () => 0), 0];
  const header = [
    ...[0xff, 0xd8],
    ...segment(0xdb, 0, ...Array.from({ length: 64 }, () => 1)),
    ...segment(0xc0, 8, ...two(height), ...two(width), 3, ...sampling.flatMap((factors, i) => [i + 1, factors, 0])),
    ...segment(0xc4, 0x00, ...oneCode),
    ...segment(0xc4, 0x10, ...oneCode),
    ...segment(0xda, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0),
  ];
  // What is left of the last byte is ones.
  const bits = 2 * blocks;
  const rest = bits % 8 === 0 ? [] : [255 >> (bits % 8)];
  return Buffer.concat([Buffer.from(header), Buffer.alloc(bits >> 3), Buffer.from([...rest, 0xff, 0xd9])]);
}

describe("a JPEG's square", () => {
  it.each([
    [64, 48, 32, { quality: 90 }],
    [48, 64, 32, { quality: 90, chromaSubsampling: "4:4:4" }],
    [63, 63, 32, { quality: 60, progressive: true }],
    [33, 47, 32, { quality: 95 }],
    [50, 37, 48, { quality: 90 }],
    [9, 4, 16, { quality: 90 }],
    [100, 71, 36, { quality: 100 }],
  ] as const)(
    "of %i × %i pixels, of side %i, is within 1 of the filter's definition (%o)",
    async (width, height, side, how) => {
      const file = await picture(width, height).jpeg(how).toBuffer();
      const mine = new Uint8Array(3 * side * side);
      expect(await decodeJpegSquare(file, side, mine)).toBe(true);
      const whole = await sharp(file).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
      // Half a unit is rounding, and decoders round chroma a little differently.
      expect(greatestDifference(mine, scaled(whole, side))).toBeLessThan(1.6);
    },
  );

  it("of its own size is as it was decoded, grey ones too", async () => {
    for (const drawn of [picture(32, 32), picture(32, 32).toColourspace("b-w")]) {
      const file = await drawn.jpeg({ chromaSubsampling: "4:4:4" }).toBuffer();
      const decoded = await sharp(file).toColourspace("srgb").raw().toBuffer();
      const mine = new Uint8Array(3 * 32 * 32);
      expect(await decodeJpegSquare(file, 32, mine)).toBe(true);
      expect(greatestDifference(mine, decoded)).toBeLessThanOrEqual(1);
    }
  });

  it.each([2, 4, 8])(
    "of a picture of %i times its size is close to what the filter makes of the whole",
    async (times) => {
      const side = 32;
      // Sides that so many divide: libjpeg scales others by a little less.
      const file = await picture(times * (side + 8), times * (side + 24), 4)
        .jpeg({ quality: 95 })
        .toBuffer();
      const mine = new Uint8Array(3 * side * side);
      expect(await decodeJpegSquare(file, side, mine)).toBe(true);
      const whole = await sharp(file).toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
      const theirs = scaled(whole, side);
      const sum = theirs.reduce((total, value, i) => total + Math.abs(value - mine[i]), 0);
      expect(sum / theirs.length).toBeLessThan(2);
    },
  );

  it("is left alone where anything is not plain", async () => {
    const side = 32;
    const drawn = picture(40, 40);
    const plain = await drawn.clone().jpeg().toBuffer();
    const broken = Buffer.from(plain);
    broken.fill(0xff, 700, 740);
    const others: Record<string, Buffer> = {
      "no JPEG": await drawn.clone().png().toBuffer(),
      turned: await drawn.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer(),
      "of inks": await drawn.clone().toColourspace("cmyk").jpeg().toBuffer(),
      "cut off": plain.subarray(0, -2),
      "cut off, with an end": Buffer.concat([plain.subarray(0, plain.length >> 1), plain.subarray(-2)]),
      faulty: broken,
      "too narrow": await picture(3, 40).jpeg().toBuffer(),
      "too large": await picture(16 * side, 16 * side)
        .jpeg()
        .toBuffer(),
      empty: Buffer.alloc(0),
    };
    for (const [what, file] of Object.entries(others)) {
      const target = new Uint8Array(3 * side * side).fill(7);
      expect(await decodeJpegSquare(file, side, target), what).toBe(false);
      expect(
        target.every((byte) => byte === 7),
        what,
      ).toBe(true);
    }
    expect(await decodeJpegSquare(plain, 30, new Uint8Array(3 * 30 * 30))).toBe(false);
  });

  it.each([
    [true, [0x11, 0x11, 0x11]],
    [true, [0x21, 0x11, 0x11]],
    [true, [0x12, 0x11, 0x11]],
    [true, [0x22, 0x11, 0x11]],
    [true, [0x41, 0x11, 0x11]],
    [false, [0x42, 0x11, 0x11]],
    [false, [0x24, 0x11, 0x11]],
    [false, [0x11, 0x24, 0x11]],
    [false, [0x21, 0x14, 0x11]],
    [false, [0x11, 0x11, 0x42]],
  ])("is there (%s) where a picture is sampled as %j, and grey either way", async (isThere, sampling) => {
    const file = flat(90, 40, sampling);
    const target = new Uint8Array(3 * 32 * 32);
    expect(await decodeJpegSquare(file, 32, target)).toBe(isThere);
    expect((await decodeSquare(file, 32)).every((byte) => byte === 128)).toBe(true);
  });

  it("of more pixels than libvips takes is left to it", async () => {
    const [side, most] = [2048, 0x3fff];
    const file = flat(most + 1, most, [0x11, 0x11, 0x11]);
    expect(await decodeJpegSquare(file, side, new Uint8Array(3 * side * side))).toBe(false);
    await expect(decodeSquare(file, side)).rejects.toThrow("pixel limit");
  });

  it("of any bytes is there or refused", async () => {
    const file = await picture(60, 50).jpeg().toBuffer();
    let refused = 0;
    for (let seed = 0; seed < 2000; seed++) {
      const mutated = Buffer.from(file);
      for (let change = 0; change <= seed % 4; change++) {
        const hash = Math.imul(seed * 4 + change + 1, 0x9e3779b1) >>> 0;
        mutated[hash % file.length] = hash >>> 24;
      }
      if (!(await decodeJpegSquare(mutated, 32, new Uint8Array(3 * 32 * 32)))) refused++;
    }
    expect(refused).toBeGreaterThan(200);
    expect(refused).toBeLessThan(1900);
  });
});
