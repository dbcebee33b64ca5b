/** Decoding: any picture that libvips reads becomes one 8-bit RGB square; most JPEGs do so without it. */
import { createRequire } from "node:module";
import type libvipsModule from "sharp";
import type { Sharp } from "sharp";
import { jpegHeader } from "./jpeg-header.js";
import { decodeJpegSquare } from "./jpeg-square.js";

type Libvips = typeof libvipsModule;
let loaded: Libvips | null = null;

/** libvips, loaded with the first picture: who only lists a data set, or reads none of pictures, does without it. */
function sharp(...given: Parameters<Libvips>): Sharp {
  return libvips()(...given);
}

function libvips(): Libvips {
  if (loaded !== null) return loaded;
  loaded = createRequire(import.meta.url)("sharp") as Libvips;
  // Many small pictures at once, each read once: parallel over pictures rather than within one, and nothing kept.
  loaded.concurrency(1);
  loaded.cache(false);
  return loaded;
}

/** What shows through a transparent picture: white, as in a browser. */
const BEHIND_ALPHA = "#ffffff";

/**
 * Decodes to `[side, side, 3]` uint8: turned upright by its EXIF tag, converted to RGB, transparency laid over white, shorter
 * side scaled to `side` (triangle filter, as torchvision's `Resize` with antialiasing), centre cut. A picture that is `side × side`
 * already comes out exactly as decoded.
 * @param picture its file's bytes
 * @param target where to
 * @returns the target
 * @throws Error from libvips where the bytes are truncated or no picture; mere warnings (stray bytes between JPEG markers) pass
 */
export async function decodeSquare(
  picture: Uint8Array,
  side: number,
  target: Uint8Array = new Uint8Array(3 * side * side),
): Promise<Uint8Array> {
  if (!(await decodeJpegSquare(picture, side, target))) target.set(await decodeByLibvips(picture, side));
  return target;
}

/** Components of a CMYK picture. */
const INKS = 4;

async function decodeByLibvips(picture: Uint8Array, side: number): Promise<Uint8Array> {
  // Colours are those of the file, as in Pillow and all that builds on it; inks have to become colours.
  const opened = sharp(picture, { failOn: "error", ignoreIcc: jpegHeader(picture)?.components !== INKS });
  return rawSquare(opened.autoOrient().flatten({ background: BEHIND_ALPHA }), side);
}

/** The memory of one square among others. @param offset of its first byte */
export function squareAt(target: Uint8Array, offset: number, side: number): Uint8Array {
  return target.subarray(offset, offset + 3 * side * side);
}

/** Scales an 8-bit RGB square `[from, from, 3]` to `[side, side, 3]`. */
export async function resizeSquare(pixels: Uint8Array, from: number, side: number): Promise<Uint8Array> {
  return rawSquare(sharp(pixels, { raw: { width: from, height: from, channels: 3 } }), side);
}

/** `[side, side, 3]` uint8 as a PNG, which decodes to the same bytes. */
export async function encodePng(pixels: Uint8Array, side: number): Promise<Uint8Array> {
  return sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .png()
    .toBuffer();
}

function rawSquare(picture: Sharp, side: number): Promise<Uint8Array> {
  return picture
    .resize(side, side, { fit: "cover", position: "centre", kernel: "linear" })
    .toColourspace("srgb")
    .raw({ depth: "uchar" })
    .toBuffer();
}

export interface PictureFormat {
  /** `jpeg`, `png` or `webp` */
  readonly format: string;
  /** upright, in pixels */
  readonly width: number;
  readonly height: number;
}

/** From the header alone. @throws Error from libvips where there is none */
export async function pictureFormat(bytes: Uint8Array): Promise<PictureFormat> {
  const { format, autoOrient } = await sharp(bytes).metadata();
  return { format, width: autoOrient.width, height: autoOrient.height };
}
