/** What a JPEG says of its colours (ICC.1:2022; embedded in APP2 segments, annex B.4 of ICC.1:2004). */

const SOI = 0xffd8;
const APP2 = 0xffe2;
/** Begins the entropy-coded picture: nothing about profiles comes behind it. */
const SOS = 0xffda;
const NAME = Buffer.from("ICC_PROFILE\0");
/** Behind the name: number of the chunk, and of chunks. */
const CHUNK_NUMBERS = 2;
const TAG_COUNT_AT = 128;
const TAG_BYTES = 12;

/**
 * Whether a JPEG's profile calls itself sRGB, as most do: then its pixels are what they should be already. (Profiles of cameras,
 * Adobe RGB and Display P3 have other names.) False of any other file, and where the description lies beyond the first chunk.
 */
export function isTaggedSrgb(file: Uint8Array): boolean {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== SOI) return false;
  for (let at = 2; at + 4 <= bytes.length;) {
    const [marker, length] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2)];
    if (marker === SOS || marker < 0xff00) return false;
    const segment = bytes.subarray(at + 4, at + 2 + length);
    if (marker === APP2 && segment.subarray(0, NAME.length).equals(NAME)) {
      return describesSrgb(segment.subarray(NAME.length + CHUNK_NUMBERS));
    }
    at += 2 + length;
  }
  return false;
}

/** In ASCII (`desc`, version 2) or UTF-16 (`mluc`, version 4). */
function describesSrgb(profile: Buffer): boolean {
  if (profile.length < TAG_COUNT_AT + 4) return false;
  const tags = profile.readUInt32BE(TAG_COUNT_AT);
  for (let tag = 0; tag < tags; tag++) {
    const at = TAG_COUNT_AT + 4 + tag * TAG_BYTES;
    if (at + TAG_BYTES > profile.length) return false;
    if (profile.toString("latin1", at, at + 4) !== "desc") continue;
    const start = profile.readUInt32BE(at + 4);
    const text = profile.toString("latin1", start, start + profile.readUInt32BE(at + 8));
    return text.replaceAll("\0", "").includes("sRGB");
  }
  return false;
}
