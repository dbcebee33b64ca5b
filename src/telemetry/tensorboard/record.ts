/** TensorFlow's record files (TFRecord): length, checksum of the length, bytes, checksum of the bytes; little-endian. */
import { crc32c } from "./crc32c.js";

const LENGTH_BYTES = 8;
const CHECKSUM_BYTES = 4;
/** Added to a checksum turned by 15 bits, so that a checksum of bytes that hold checksums stays a good one. */
const MASK = 0xa282ead8;

function masked(bytes: Uint8Array): number {
  const checksum = crc32c(bytes);
  return (((checksum >>> 15) | (checksum << 17)) + MASK) >>> 0;
}

/** @returns the bytes as one record of a file */
export function toRecord(bytes: Uint8Array): Uint8Array {
  const start = LENGTH_BYTES + CHECKSUM_BYTES;
  const record = new Uint8Array(start + bytes.length + CHECKSUM_BYTES);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(LENGTH_BYTES, masked(record.subarray(0, LENGTH_BYTES)), true);
  record.set(bytes, start);
  view.setUint32(start + bytes.length, masked(bytes), true);
  return record;
}
