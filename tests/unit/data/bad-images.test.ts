/** Pictures of every kind in one batch, through the real decoder, from files and from a tar. Fixtures: `tests/fixtures/bad_images.py`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, expect, it } from "vitest";
import { readBatch } from "../../../src/data/batch.js";
import { openImages } from "../../../src/data/open.js";
import { writeTar } from "./system-tar.js";
import { temporaryFolder } from "./temporary-folder.js";

const folder = temporaryFolder();
const SIDE = 16;
const BYTES = SIDE * SIDE * 3;
type Rgb = readonly [number, number, number];

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/${name}`, import.meta.url));

function plain(width: number, height: number, [r, g, b]: Rgb) {
  return sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
}

/** 16 bits a channel, red a quarter and blue full, half transparent. */
async function sixteenBits(): Promise<Buffer> {
  const pixel = [0x4000, 0, 0xffff, 0x8000];
  const values = Uint16Array.from({ length: 20 * 30 * 4 }, (_, i) => pixel[i % 4]);
  const picture = sharp(values, { raw: { width: 20, height: 30, channels: 4 } }).toColourspace("rgb16");
  const bytes = await picture.png().toBuffer();
  expect(await sharp(bytes).metadata()).toMatchObject({ depth: "ushort", hasAlpha: true });
  return bytes;
}

/** A photograph's worth of detail, so that its second half carries pixels. */
async function truncated(): Promise<Buffer> {
  const values = Uint8Array.from({ length: 200 * 150 * 3 }, (_, i) => (i * 7919) % 256);
  const bytes = await sharp(values, { raw: { width: 200, height: 150, channels: 3 } })
    .jpeg()
    .toBuffer();
  return bytes.subarray(0, Math.floor(bytes.length / 2));
}

/** What is expected in the leftmost and rightmost column; null where the picture is corrupt. */
interface Case {
  readonly bytes: Uint8Array;
  readonly columns: readonly [Rgb, Rgb] | null;
}

let cases: ReadonlyMap<string, Case>;

beforeAll(async () => {
  const all = (colour: Rgb): [Rgb, Rgb] => [colour, colour];
  cases = new Map<string, Case>([
    ["00-zero-byte.jpg", { bytes: Buffer.alloc(0), columns: null }],
    ["01-wide.png", { bytes: await plain(2000, 3, [9, 90, 200]).png().toBuffer(), columns: all([9, 90, 200]) }],
    ["02-tall.png", { bytes: await plain(2, 3000, [200, 9, 90]).png().toBuffer(), columns: all([200, 9, 90]) }],
    ["03-one-pixel.webp", { bytes: await plain(1, 1, [0, 0, 0]).webp().toBuffer(), columns: all([0, 0, 0]) }],
    ["04-truncated.jpg", { bytes: await truncated(), columns: null }],
    // Cyan, then black, as libvips' CMYK profile has them; read without the inversion they would be red and white.
    [
      "05-cmyk-adobe.jpg",
      {
        bytes: fixture("cmyk-adobe.jpg"),
        columns: [
          [0, 153, 227],
          [20, 5, 0],
        ],
      },
    ],
    [
      "06-palette.png",
      {
        bytes: fixture("palette-transparent.png"),
        columns: [
          [200, 30, 40],
          [255, 255, 255],
        ],
      },
    ],
    // Over white: half of (64, 0, 255) and half of 255.
    ["07-16-bit.png", { bytes: await sixteenBits(), columns: all([159, 127, 255]) }],
  ]);
  for (const [name, { bytes }] of cases) folder.write(`pictures/${name}`, bytes);
  writeTar(
    join(folder.path, "pictures.tar"),
    [...cases].map(([name, { bytes }]) => [name, bytes]),
  );
});

it.each(["folder:pictures", "webdataset:pictures.tar"])(
  "%s: a batch holds what decodes, and names the rest",
  async (spec) => {
    const [scheme, place] = spec.split(":");
    const { splits } = await openImages(`${scheme}:${join(folder.path, place)}`, { decodeSize: SIDE });
    expect(splits.train.length).toBe(cases.size);
    const images = new Uint8Array(cases.size * BYTES);
    const corrupt: number[] = [];
    const indices = [...cases.keys()].map((_, index) => index);
    const held = await readBatch(splits.train, indices, images, (_, index) => corrupt.push(index));
    expect(corrupt.sort()).toEqual([0, 4]);
    expect([...held]).toEqual([1, 1, 2, 3, 5, 5, 6, 7]);
    const expected = [...cases.values()];
    held.forEach((index, at) => {
      const { columns } = expected[index];
      const picture = images.subarray(at * BYTES, (at + 1) * BYTES);
      for (let row = 0; row < SIDE; row++) {
        for (const [column, colour] of [
          [0, columns?.[0]],
          [SIDE - 1, columns?.[1]],
        ] as const) {
          const start = 3 * (row * SIDE + column);
          const found = [...picture.subarray(start, start + 3)];
          const difference = found.map((value, channel) => Math.abs(value - (colour?.[channel] ?? NaN)));
          expect(Math.max(...difference), `${index}, row ${row}, column ${column}: ${found.join(" ")}`).toBeLessThan(4);
        }
      }
    });
  },
);
