/** CRC-32C (Castagnoli; RFC 3720, appendix B.4), which Node's zlib does not have: its crc32 is another polynomial. */

/** bits of the polynomial 0x1EDC6F41, reversed */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
  return remainder;
});

/** @returns 32 bits, unsigned */
export function crc32c(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) remainder = (remainder >>> 8) ^ TABLE[(remainder ^ bytes[i]) & 0xff];
  return ~remainder >>> 0;
}
