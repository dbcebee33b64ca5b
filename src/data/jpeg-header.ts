/** What a JPEG says of itself before its picture begins: size, colours and which side is up (Exif 2.32, section 4.6). */

export interface JpegHeader {
  /** as it is stored, in pixels */
  readonly width: number;
  readonly height: number;
  /** 1: grey, 3: colours, 4: inks */
  readonly components: number;
  /** horizontal and vertical sampling factors of each, such as "22" (4:2:0 is "22", "11", "11") */
  readonly sampling: readonly string[];
  /** bits of a component */
  readonly precision: number;
  /** coded by Huffman's code, as almost all are */
  readonly isHuffman: boolean;
  /** it need not be turned or mirrored */
  readonly isUpright: boolean;
}

const SOI = 0xffd8;
const APP1 = 0xffe1;
/** Any number of bytes 0xff may stand before a marker. */
const FILL = 0xffff;
/** Begins the entropy-coded picture. */
const SOS = 0xffda;
/** Of frames: baseline, extended and progressive by Huffman's code. */
const HUFFMAN_FRAMES = [0xffc0, 0xffc1, 0xffc2];
/** Of frames, and three in between that are none. */
const [FIRST_FRAME, LAST_FRAME, NO_FRAMES] = [0xffc0, 0xffcf, [0xffc4, 0xffc8, 0xffcc]];

/** @returns null where there is no JPEG, or one that ends before its picture begins */
export function jpegHeader(file: Uint8Array): JpegHeader | null {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== SOI) return null;
  let frame: Omit<JpegHeader, "isUpright"> | null = null;
  let isUpright = true;
  for (let at = 2; at + 4 <= bytes.length;) {
    const [marker, length] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2)];
    if (marker === SOS) return frame === null ? null : { ...frame, isUpright };
    if (marker < 0xff00) return null;
    if (marker === FILL) {
      at++;
      continue;
    }
    const segment = bytes.subarray(at + 4, at + 2 + length);
    if (marker === APP1 && segment.subarray(0, EXIF.length).equals(EXIF))
      isUpright &&= isUprightExif(segment.subarray(EXIF.length));
    if (marker >= FIRST_FRAME && marker <= LAST_FRAME && !NO_FRAMES.includes(marker) && segment.length >= 6) {
      const [precision, height, width] = [segment[0], segment.readUInt16BE(1), segment.readUInt16BE(3)];
      const components = segment[5];
      const sampling = Array.from({ length: components }, (_, i) => (segment[7 + 3 * i] ?? 0).toString(16));
      frame = { width, height, components, sampling, precision, isHuffman: HUFFMAN_FRAMES.includes(marker) };
    }
    at += 2 + length;
  }
  return null;
}

const EXIF = Buffer.from("Exif\0\0");
const LITTLE_ENDIAN = 0x4949;
const ENTRY_BYTES = 12;
const ORIENTATION = 0x0112;
const UPRIGHT = 1;

/** By the orientation in its first directory; a block that says none, or cannot be read, turns nothing. */
function isUprightExif(block: Buffer): boolean {
  if (block.length < 8) return true;
  const isLittle = block.readUInt16BE(0) === LITTLE_ENDIAN;
  const short = (at: number) => (isLittle ? block.readUInt16LE(at) : block.readUInt16BE(at));
  const directory = isLittle ? block.readUInt32LE(4) : block.readUInt32BE(4);
  if (directory + 2 > block.length) return true;
  const entries = short(directory);
  for (let entry = 0; entry < entries; entry++) {
    const at = directory + 2 + entry * ENTRY_BYTES;
    if (at + ENTRY_BYTES > block.length) return true;
    if (short(at) === ORIENTATION) return short(at + 8) === UPRIGHT;
  }
  return true;
}
