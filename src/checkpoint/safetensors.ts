/**
 * The safetensors file format (huggingface/safetensors, "Format"): 8 bytes of header length (unsigned, little-endian), a
 * JSON header that places each tensor, then the tensors' bytes, little-endian, without gaps. Reading trusts nothing.
 */
import { endianness } from "node:os";

/** Bytes of one element, by the format's name of the type. Types that Tandem does not write are refused. */
const ELEMENT_BYTES = { F32: 4, I32: 4, U8: 1, I64: 8 } as const;

export type TensorData =
  | { readonly dtype: "F32"; readonly data: Float32Array }
  | { readonly dtype: "I32"; readonly data: Int32Array }
  | { readonly dtype: "U8"; readonly data: Uint8Array }
  | { readonly dtype: "I64"; readonly data: BigInt64Array };

export type Dtype = TensorData["dtype"];

/** A tensor under its name; `data` holds the product of `shape` elements in row-major order. */
export type NamedTensor = TensorData & { readonly name: string; readonly shape: readonly number[] };

/** Longest header that is read, in bytes; the format's own limit. */
export const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;
/** The header's one entry that is no tensor. */
const METADATA = "__metadata__";
/** The header is filled up with spaces, so that every tensor starts at a multiple of the widest element. */
const ALIGNMENT = 8;

/** What is wrong with a file, without its name; whoever knows the name wraps it. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
}

/**
 * Views of the file's bytes, in order: the header, then each tensor. Nothing is copied.
 * Wider elements come first, which keeps every tensor aligned.
 * @param metadata what the header's `__metadata__` says; the format knows texts alone
 * @throws RangeError where names repeat or a tensor's data and shape disagree: the caller's bug
 */
export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array[] {
  if (endianness() !== "LE") throw new RangeError("safetensors are little-endian, and this machine is not");
  const ordered = [...tensors].sort((a, b) => ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype]);
  const header = new Map<string, unknown>(metadata === undefined ? [] : [[METADATA, metadata]]);
  let offset = 0;
  for (const { name, dtype, shape, data } of ordered) {
    if (header.has(name) || name === METADATA) throw new RangeError(`two tensors are called ${name}`);
    if (elementCount(shape) !== data.length) {
      throw new RangeError(`${name} of shape [${shape.join(", ")}] holds ${data.length} elements`);
    }
    header.set(name, { dtype, shape, data_offsets: [offset, offset + data.byteLength] });
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const padded = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const head = Buffer.alloc(LENGTH_BYTES + padded, " ");
  head.writeBigUInt64LE(BigInt(padded));
  json.copy(head, LENGTH_BYTES);
  return [head, ...ordered.map(({ data }) => bytesOf(data))];
}

/** The bytes of an array, not copied. */
export function bytesOf(data: TensorData["data"]): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

interface Placed {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * @param file the whole file; the tensors are views of it where alignment allows
 * @returns tensors in the order of their bytes
 * @throws SafetensorsError where anything is not as the format says
 */
export function decodeSafetensors(file: Uint8Array): NamedTensor[] {
  if (file.byteLength < LENGTH_BYTES) throw new SafetensorsError(`${file.byteLength} bytes are too few for a header`);
  const declared = new DataView(file.buffer, file.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (declared > BigInt(MAX_HEADER_BYTES))
    throw new SafetensorsError(`a header of ${String(declared)} bytes is too long`);
  const start = LENGTH_BYTES + Number(declared);
  if (start > file.byteLength) {
    throw new SafetensorsError(`a header of ${String(declared)} bytes does not fit into ${file.byteLength} bytes`);
  }
  const body = file.subarray(start);
  const placed = parseHeader(file.subarray(LENGTH_BYTES, start)).sort((a, b) => a.begin - b.begin || a.end - b.end);
  let expected = 0;
  for (const { name, begin, end } of placed) {
    if (begin !== expected) {
      const problem = begin < expected ? "overlaps the tensor before it" : "leaves a gap before it";
      throw new SafetensorsError(`${name} at [${begin}, ${end}) ${problem}, which ends at ${expected}`);
    }
    expected = end;
  }
  if (expected !== body.byteLength) {
    throw new SafetensorsError(`the tensors take ${expected} bytes and the file holds ${body.byteLength}`);
  }
  return placed.map(({ name, dtype, shape, begin, end }) => ({
    name,
    shape,
    ...view(dtype, body.subarray(begin, end)),
  }));
}

function parseHeader(bytes: Uint8Array): Placed[] {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SafetensorsError("the header is no JSON", { cause });
  }
  if (!isRecord(header)) throw new SafetensorsError("the header is no JSON object");
  return Object.entries(header)
    .filter(([name]) => name !== METADATA)
    .map(([name, entry]) => parseEntry(name, entry));
}

function parseEntry(name: string, entry: unknown): Placed {
  if (!isRecord(entry)) throw new SafetensorsError(`${name} has no description`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    throw new SafetensorsError(
      `${name} has dtype ${JSON.stringify(dtype)}; known are ${Object.keys(ELEMENT_BYTES).join(", ")}`,
    );
  }
  if (!isCounts(shape)) throw new SafetensorsError(`${name} has shape ${JSON.stringify(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw new SafetensorsError(`${name} has data_offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const size = elementCount(shape) * ELEMENT_BYTES[dtype as Dtype];
  if (end - begin !== size) {
    throw new SafetensorsError(`${name}, ${dtype} [${shape.join(", ")}], needs ${size} bytes and has ${end - begin}`);
  }
  return { name, dtype: dtype as Dtype, shape, begin, end };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}

function view(dtype: Dtype, bytes: Uint8Array): TensorData {
  const { buffer, byteOffset } = byteAligned(bytes, ELEMENT_BYTES[dtype]);
  const length = bytes.byteLength / ELEMENT_BYTES[dtype];
  switch (dtype) {
    case "F32":
      return { dtype, data: new Float32Array(buffer, byteOffset, length) };
    case "I32":
      return { dtype, data: new Int32Array(buffer, byteOffset, length) };
    case "U8":
      return { dtype, data: new Uint8Array(buffer, byteOffset, length) };
    case "I64":
      return { dtype, data: new BigInt64Array(buffer, byteOffset, length) };
  }
}

/** The bytes themselves where a typed array may begin there, else a copy. (`Buffer.slice` would be a view.) */
function byteAligned(bytes: Uint8Array, alignment: number): Uint8Array {
  return bytes.byteOffset % alignment === 0 ? bytes : Uint8Array.from(bytes);
}
