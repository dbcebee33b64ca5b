/**
 * NumPy's array file, version 1.0 (numpy.lib.format): magic, version, length of the header, the header as a Python
 * literal filled up with spaces to a multiple of 64 bytes and ended by a newline, then the values in C order.
 */

const MAGIC = Buffer.from("\x93NUMPY\x01\x00", "latin1");
const ALIGNMENT = 64;
const DTYPES = { float32: "<f4", int32: "<i4" } as const;

/** All bytes in front of the values, which follow little-endian. */
export function npyHeader(dtype: keyof typeof DTYPES, shape: readonly number[]): Uint8Array {
  const sides = shape.length === 1 ? `${String(shape[0])},` : shape.join(", ");
  const literal = `{'descr': '${DTYPES[dtype]}', 'fortran_order': False, 'shape': (${sides}), }`;
  const start = MAGIC.length + 2;
  const length = Math.ceil((start + literal.length + 1) / ALIGNMENT) * ALIGNMENT - start;
  const header = Buffer.alloc(start + length, " ");
  MAGIC.copy(header);
  header.writeUInt16LE(length, MAGIC.length);
  header.write(literal, start, "latin1");
  header.write("\n", header.length - 1, "latin1");
  return header;
}
