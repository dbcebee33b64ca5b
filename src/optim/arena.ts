/**
 * Vectors in one WebAssembly memory, shared between threads, and the kernels that work on them. Released vectors are used
 * again: fresh memory costs the kernel ten times a copy (zeroing and mapping its pages; measured 20 ms for 45 MB, where a
 * copy takes 2 ms), so a step must not ask for any.
 */
import { readFileSync } from "node:fs";
import { PAGE_BYTES as FILE_PAGE_BYTES, putPages, wholePages } from "../native/shared-pages.js";

/** See `assembly/kernels.ts`. Places are byte offsets, numbers become float32 on the way in. */
export interface Kernels {
  add(a: number, b: number, out: number, length: number): void;
  round(values: number, length: number): void;
  addRounded(a: number, b: number, out: number, length: number): void;
  pack(values: number, codes: number, length: number): void;
  unpack(codes: number, values: number, length: number): void;
  encode(values: number, codes: number, out: number, length: number, scratch: number): number;
  decode(before: number, from: number, end: number, target: number, length: number, scratch: number): number;
  mix(target: number, source: number, next: number, length: number, m: number, share: number): void;
  sgd(
    parameters: number,
    gradient: number,
    velocity: number,
    nextParameters: number,
    nextVelocity: number,
    length: number,
    scale: number,
    decay: number,
    trust: number,
    momentum: number,
    rate: number,
  ): void;
  squares(theta: number, gradient: number, length: number, scale: number, decay: number): number;
  adamw(
    parameters: number,
    gradient: number,
    mean: number,
    square: number,
    nextParameters: number,
    nextMean: number,
    nextSquare: number,
    length: number,
    scale: number,
    kept: number,
    share: number,
    squareKept: number,
    squareShare: number,
    rootScale: number,
    epsilon: number,
    rate: number,
  ): void;
}

const PAGE_BYTES = 65_536;
/** What 32-bit addresses reach: 4 GiB. */
const MOST_PAGES = 65_536;
export const MOST_ARENA_BYTES = MOST_PAGES * PAGE_BYTES;
/** Vectors begin on a cache line. */
const ALIGNMENT = 64;

const MODULE = new WebAssembly.Module(readFileSync(new URL("./generated/kernels.wasm", import.meta.url)));

export class VectorArena {
  private readonly memory = new WebAssembly.Memory({ initial: 1, maximum: MOST_PAGES, shared: true });
  readonly kernels: Kernels;
  /** released vectors by length */
  private readonly free = new Map<number, Float32Array[]>();
  /** the same of those that were mapped, which begin on a page */
  private readonly freeMapped = new Map<number, Float32Array[]>();
  private readonly mapped = new Set<Float32Array>();
  /** what the kernels put down while they code */
  private coding: Float32Array | null = null;
  private end = ALIGNMENT;

  constructor() {
    const { exports } = new WebAssembly.Instance(MODULE, { env: { memory: this.memory } });
    this.kernels = exports as unknown as Kernels;
  }

  /** Bytes ever asked of the system. */
  get bytes(): number {
    return this.end;
  }

  /**
   * A vector whose values are arbitrary. It is the caller's until `release`.
   * @throws RangeError where the vectors in use pass 4 GiB
   */
  take(length: number): Float32Array {
    return this.free.get(length)?.pop() ?? this.claim(length, ALIGNMENT);
  }

  /**
   * A vector whose memory is a file's: others who have mapped it see what is written. It is the caller's until `unmap`.
   * @param file descriptor, which may be closed afterwards
   * @param position byte in the file, a multiple of 4096
   * @throws RangeError as `take`
   */
  map(length: number, file: number, position: number): Float32Array {
    const vector = this.freeMapped.get(length)?.pop() ?? this.claim(length, FILE_PAGE_BYTES);
    putPages(pagesOf(vector), file, position);
    this.mapped.add(vector);
    return vector;
  }

  /** Takes back a vector that was mapped. The file is let go. */
  unmap(vector: Float32Array): void {
    putPages(pagesOf(vector), -1, 0);
    this.mapped.delete(vector);
    keep(this.freeMapped, vector);
  }

  private claim(length: number, alignment: number): Float32Array {
    const start = Math.ceil(this.end / alignment) * alignment;
    const end = start + Math.ceil((4 * length + 1) / alignment) * alignment;
    const pages = Math.ceil(end / PAGE_BYTES) - this.memory.buffer.byteLength / PAGE_BYTES;
    try {
      if (pages > 0) this.memory.grow(pages);
    } catch (cause) {
      throw new RangeError(`a vector of ${length} values does not fit beside the ${start} bytes in use`, { cause });
    }
    this.end = end;
    return new Float32Array(this.memory.buffer, start, length);
  }

  /** Takes a vector back; nobody may read or write it from now on. One that is mapped stays its owner's. */
  release(vector: Float32Array): void {
    if (this.mapped.has(vector)) return;
    keep(this.free, vector);
  }

  /** `target ← target + other`, the first `rounded` values to the nearest bfloat16 */
  addTo(target: Float32Array, other: Float32Array, rounded = 0): void {
    const [at, from] = [this.offsetOf(target), this.offsetOf(other)];
    this.kernels.addRounded(at, from, at, rounded);
    const bytes = Float32Array.BYTES_PER_ELEMENT * rounded;
    this.kernels.add(at + bytes, from + bytes, at + bytes, target.length - rounded);
  }

  /** Each value to the nearest bfloat16. */
  round(vector: Float32Array): void {
    this.kernels.round(this.offsetOf(vector), vector.length);
  }

  /** A vector's values as the nearest bfloat16. The codes are the caller's until `release`. */
  packed(vector: Float32Array): Float32Array {
    const codes = this.take(packedLength(vector.length));
    this.pack(vector, codes);
    return codes;
  }

  /** @param codes written: `packedLength` */
  pack(vector: Float32Array, codes: Float32Array): void {
    this.kernels.pack(this.offsetOf(vector), this.offsetOf(codes), vector.length);
  }

  /** The reverse of `packed`. */
  unpack(codes: Float32Array, vector: Float32Array): void {
    this.kernels.unpack(this.offsetOf(codes), this.offsetOf(vector), vector.length);
  }

  /**
   * Writes how `values`, as the nearest bfloat16, differ from `codes` into `out` from byte `at`, and makes them the codes.
   * @param codes bfloat16, as `packed` makes them
   * @param out room for `differencesLength` of all that is written there
   * @returns the byte behind
   */
  encode(values: Float32Array, codes: Float32Array, out: Float32Array, at: number): number {
    const [from, before, to] = [values, codes, out].map((vector) => this.offsetOf(vector)) as [number, number, number];
    return this.kernels.encode(from, before, to + at, values.length, this.scratch()) - to;
  }

  /**
   * What `encode` has written, read: `target ← before` with the differences.
   * @param before bfloat16 values, as float32
   * @param coded followed by `CODING_SLACK` bytes of the same memory
   * @param at byte at which they begin
   * @param end byte behind all that may be read
   * @returns the byte behind; null: there is more than that
   */
  decode(before: Float32Array, coded: Float32Array, at: number, end: number, target: Float32Array): number | null {
    const [old, from, to] = [before, coded, target].map((vector) => this.offsetOf(vector)) as [number, number, number];
    const next = this.kernels.decode(old, from + at, from + end, to, target.length, this.scratch());
    return next === 0 ? null : next - from;
  }

  private scratch(): number {
    this.coding ??= this.take(SCRATCH_BYTES / Float32Array.BYTES_PER_ELEMENT);
    return this.offsetOf(this.coding);
  }

  /**
   * `next ← m·target + (1 − m)·sourceScale·source`: the momentum update (He et al. 2020, equation 2), and running
   * statistics of batch norm with m = 1 − momentum. Both factors are rounded to float32 first.
   */
  mix(target: Float32Array, source: Float32Array, m: number, next: Float32Array, sourceScale = 1): void {
    const offsets = [target, source, next].map((vector) => this.offsetOf(vector)) as [number, number, number];
    this.kernels.mix(...offsets, next.length, m, (1 - m) * sourceScale);
  }

  /** Where the kernels find a vector. @throws RangeError where the vector is not of this arena */
  offsetOf(vector: Float32Array): number {
    const { buffer, byteOffset, byteLength } = vector;
    // Each growth gives a new, longer buffer over the same memory; older views stay good.
    const isOurs =
      buffer instanceof SharedArrayBuffer && byteOffset + byteLength <= this.end && byteOffset >= ALIGNMENT;
    if (!isOurs) throw new RangeError("the kernels work on vectors of their own arena");
    return byteOffset;
  }
}

/** Most bytes that the differences of a block of 128 values come to: see `encode` of the kernels. */
const CODED_BLOCK = 128;
const MOST_CODED_BYTES = 290;
/** Bytes that coding and decoding may touch behind a vector's end. */
export const CODING_SLACK = 32;
const SCRATCH_BYTES = 272;

/** Length of a vector in which the differences of so many values, in any number of stretches, have room, whatever they are. */
export function differencesLength(length: number): number {
  const bytes = Math.ceil((length / CODED_BLOCK) * MOST_CODED_BYTES) + CODING_SLACK;
  return Math.ceil(bytes / Float32Array.BYTES_PER_ELEMENT);
}

/** Length of a vector in whose memory so many bfloat16 fit. */
export function packedLength(length: number): number {
  return Math.ceil(length / 2);
}

function keep(free: Map<number, Float32Array[]>, vector: Float32Array): void {
  const list = free.get(vector.length);
  if (list === undefined) free.set(vector.length, [vector]);
  else list.push(vector);
}

/** All pages that a mapped vector's memory reaches into. */
function pagesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, wholePages(byteLength));
}
