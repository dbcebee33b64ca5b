/** Differences of bfloat16 vectors, written and read. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CODING_SLACK, differencesLength, VectorArena } from "../../../src/optim/index.js";

const arena = new VectorArena();
const bitsOf = ({ buffer, byteOffset, length }: Float32Array) => [...new Uint32Array(buffer, byteOffset, length)];
const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength);

function vectorOf(bits: readonly number[]): Float32Array {
  const vector = arena.take(bits.length);
  new Uint32Array(vector.buffer, vector.byteOffset, vector.length).set(bits);
  return vector;
}

/** Any bits, and their neighbours: what training changes, and everything else. */
const bits = fc.integer({ min: 0, max: 0xffffffff });
const change = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.integer({ min: -0x30000, max: 0x30000 }) },
  { weight: 1, arbitrary: bits },
);
const pairs = fc.array(fc.tuple(bits, change), { maxLength: 600 });

function written(before: Float32Array, after: Float32Array) {
  const codes = arena.packed(before);
  const out = arena.take(differencesLength(after.length));
  return { codes, out, end: arena.encode(after, codes, out, 0) };
}

describe("differences of bfloat16 vectors", () => {
  it("are read as they were written, whatever the values and however many", () => {
    fc.assert(
      fc.property(pairs, (given) => {
        const before = vectorOf(given.map(([value]) => value));
        const after = vectorOf(given.map(([value, by]) => (value + by) >>> 0));
        const { codes, out, end } = written(before, after);
        expect(end + CODING_SLACK).toBeLessThanOrEqual(out.byteLength + 4);
        arena.round(before);
        arena.round(after);
        const [guard, read] = [arena.take(1), arena.take(after.length)];
        guard.fill(7);
        expect(arena.decode(before, out, 0, end, read)).toBe(end);
        expect(bitsOf(read)).toEqual(bitsOf(after));
        // The codes are those of now.
        const again = arena.packed(after);
        expect(bytesOf(codes).subarray(0, 2 * after.length)).toEqual(bytesOf(again).subarray(0, 2 * after.length));
        for (const vector of [before, after, codes, out, guard, read, again]) arena.release(vector);
      }),
      { numRuns: 400 },
    );
  });

  it("take two bytes of 256 where nothing has changed, and one plane's where a few have by a step", () => {
    const values = Array.from({ length: 1280 }, (_, i) => 0x3f800000 + (i << 16));
    const end = (changed: number) => {
      const after = values.map((value, i) => (i < changed ? value + 0x10000 : value));
      return written(vectorOf(values), vectorOf(after)).end;
    };
    expect(end(0)).toBe(10 * 2);
    // +1 is written as 2: one plane of a block, of which one byte is not 0.
    expect(end(1)).toBe(10 * 2 + 2 + 1);
    expect(end(128)).toBe(10 * 2 + 2 + 16);
  });

  it("are not read past their end, and nothing but the target is written", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.integer({ min: 1, max: 300 }), (bytes, length) => {
        const [before, coded] = [arena.take(length), arena.take(128)];
        const [ahead, target, behind] = [arena.take(16), arena.take(length), arena.take(16)];
        before.fill(1);
        for (const vector of [ahead, target, behind]) vector.fill(3);
        bytesOf(coded).fill(0xff);
        bytesOf(coded).set(bytes);
        const next = arena.decode(before, coded, 0, bytes.length, target);
        if (next !== null) expect(next).toBeLessThanOrEqual(bytes.length);
        expect([...ahead, ...behind].every((value) => value === 3)).toBe(true);
        for (const vector of [before, coded, ahead, target, behind]) arena.release(vector);
      }),
      { numRuns: 400 },
    );
  });
});
