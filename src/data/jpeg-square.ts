/**
 * The short way from a JPEG to a square, for nearly all that there are. Most of the time is libjpeg-turbo's for Huffman's code, which
 * every decoder spends; what libvips spends on top of that is left out.
 */
import { loadAddon } from "../native/addon.js";
import { jpegHeader } from "./jpeg-header.js";

/** src/native/jpeg-square.cc */
interface Addon {
  /**
   * @param target uint8 `[to, to, 3]`
   * @param ratio 1, 2, 4 or 8: of the picture's sides, one pixel for so many is decoded
   * @param left first column of the picture that is decoded
   * @param top first row
   * @param width columns
   * @param x the first of these columns that is in the square
   * @param from side of the square as it is decoded, ≥ 4 and < 2·to
   * @param to a multiple of 4
   * @returns false where the picture has anything wrong with it, and the target is as it was
   */
  decodeSquare(
    file: Uint8Array,
    target: Uint8Array,
    ratio: number,
    left: number,
    top: number,
    width: number,
    x: number,
    from: number,
    to: number,
  ): Promise<boolean>;
}

let loaded: Addon | null = null;

/** With libtensorflow, so only once there is a JPEG. */
function addon(): Addon {
  return (loaded ??= loadAddon<Addon>("jpeg-square"));
}

/** Pixels of the largest picture that libvips takes, too: what claims more is refused there before it takes memory. */
const MOST_PIXELS = 0x3fff ** 2;
/**
 * Sampling factors of brightness beside "11" of both colours: 4:4:4, 4:2:2, 4:4:0, 4:2:0 and 4:1:1. Of rarer ones libjpeg leaves parts
 * of a row unwritten where it crops.
 */
const SAMPLINGS = ["11", "21", "12", "22", "41"];

function isWellSampled([brightness = "", ...colours]: readonly string[]): boolean {
  return colours.length === 0 || (SAMPLINGS.includes(brightness) && colours.every((factors) => factors === "11"));
}

const MOST_HALVED = 8;
/** Columns beside the square that are decoded too: at the edge of what is, colours are made up from fewer of their neighbours. */
const MARGIN = 8;
/** Pixels that the filter takes. */
const LEAST_SIDE = 4;

/**
 * As `decodeSquare` in decode.ts, of a JPEG with 8 bits that is upright, grey or in colours, whole and without fault.
 * @param target uint8 `[side, side, 3]`
 * @returns false of any other, and the target is as it was
 */
export async function decodeJpegSquare(file: Uint8Array, side: number, target: Uint8Array): Promise<boolean> {
  const header = jpegHeader(file);
  if (header === null || side % 4 !== 0) return false;
  const { width, height, components, sampling, precision, isHuffman, isUpright } = header;
  const isPlain = isHuffman && precision === 8 && (components === 1 || components === 3) && isWellSampled(sampling);
  if (!isPlain || !isUpright || !endsWhole(file) || width * height > MOST_PIXELS) return false;
  let ratio = 1;
  while (ratio < MOST_HALVED && Math.min(width, height) >= 2 * ratio * side) ratio *= 2;
  const [decodedWidth, decodedHeight] = [Math.ceil(width / ratio), Math.ceil(height / ratio)];
  const from = Math.min(decodedWidth, decodedHeight);
  if (from < LEAST_SIDE || from >= 2 * side) return false;
  const [x, top] = [(decodedWidth - from) >> 1, (decodedHeight - from) >> 1];
  const left = Math.max(0, x - MARGIN);
  const columns = Math.min(decodedWidth, x + from + MARGIN) - left;
  return addon().decodeSquare(file, target, ratio, left, top, columns, x - left, from, side);
}

/** By the marker of its end: libtensorflow would say on stderr what a file lacks. */
function endsWhole(file: Uint8Array): boolean {
  return file.at(-2) === 0xff && file.at(-1) === 0xd9;
}
