/** bfloat16 in the kernels: against the definition, value by value. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packedLength, SumTree, VectorArena } from "../../../src/optim/index.js";

const scratch = new DataView(new ArrayBuffer(4));
const bitsOf = (value: number) => {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
};
const ofBits = (bits: number) => {
  scratch.setUint32(0, bits >>> 0);
  return scratch.getFloat32(0);
};
/** Of the two neighbours with 16 bits the nearer, in float64; of two as near, the one whose last bit is 0. */
function nearest(value: number): number {
  if (!Number.isFinite(value)) return value;
  const below = ofBits(bitsOf(value) & 0xffff0000);
  const above = ofBits((bitsOf(value) & 0xffff0000) + 0x10000);
  // Beyond the largest there is as much room as before it.
  const end = Number.isFinite(above) ? above : Math.sign(value) * 2 ** 128;
  const [down, up] = [Math.abs(value - below), Math.abs(end - value)];
  if (down === up) return (bitsOf(below) & 0x10000) === 0 ? below : above;
  return down < up ? below : above;
}

function vectorOf(arena: VectorArena, values: readonly number[]): Float32Array {
  const vector = arena.take(values.length);
  vector.set(values);
  return vector;
}

/** Any float32, near ties and edges among them. */
const anyFloat = fc.oneof(
  fc.float(),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map(ofBits),
  fc.integer({ min: 0, max: 0xffff }).map((high) => ofBits((high << 16) | 0x8000)),
  fc.constantFrom(0, -0, Infinity, -Infinity, NaN, 3.4e38, -3.4e38, 1e-45, ofBits(0x7f7f8000), ofBits(0x7f800001)),
);
const vectors = fc.array(anyFloat, { maxLength: 40 });

describe("bfloat16", () => {
  it("is the nearest value, ties to even, and what is no number stays none", () => {
    fc.assert(
      fc.property(vectors, (values) => {
        const arena = new VectorArena();
        const vector = vectorOf(arena, [...values, 77.7]);
        arena.round(vector.subarray(0, values.length));
        values.forEach((value, i) => expect(vector[i], String(value)).toBe(nearest(Math.fround(value))));
        // Nothing behind is touched.
        expect(vector[values.length]).toBe(Math.fround(77.7));
      }),
      { numRuns: 500 },
    );
  });

  it("is packed and unpacked without loss, whatever the length", () => {
    fc.assert(
      fc.property(vectors, (values) => {
        const arena = new VectorArena();
        const vector = vectorOf(arena, values);
        arena.round(vector);
        const codes = arena.packed(vector);
        expect(codes).toHaveLength(packedLength(values.length));
        const halves = new Uint16Array(codes.buffer, codes.byteOffset, values.length);
        expect([...halves]).toEqual(
          [...vector].map((value, i) => (Number.isNaN(value) ? halves[i] : bitsOf(value) >>> 16)),
        );
        const back = vectorOf(arena, [...values, 77.7]);
        arena.unpack(codes, back.subarray(0, values.length));
        expect([...back]).toEqual([...vector, Math.fround(77.7)]);
      }),
      { numRuns: 300 },
    );
  });

  it("rounds a sum at every node of the tree, but for what is not to be rounded", () => {
    const worldSize = 5;
    const arena = new VectorArena();
    const tree = new SumTree(worldSize, arena, 6);
    const rank = (index: number) => Array.from({ length: 9 }, (_, i) => nearest(Math.fround(Math.sin(7 * index + i))));
    // An order in which nothing can be merged at once.
    for (const index of [0, 2, 4, 3, 1]) tree.add({ level: 0, index }, vectorOf(arena, rank(index)));
    const ranks = Array.from({ length: worldSize }, (_, index) => rank(index));
    const sum = (a: number, b: number, i: number) => (i < 6 ? nearest(Math.fround(a + b)) : Math.fround(a + b));
    const expected = rank(0).map((_, i) => {
      const [a = 0, b = 0, c = 0, d = 0, e = 0] = ranks.map((values) => values[i]);
      return sum(sum(sum(a, b, i), sum(c, d, i), i), e, i);
    });
    expect([...(tree.root() ?? [])]).toEqual(expected);
  });
});
