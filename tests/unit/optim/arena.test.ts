import { describe, expect, it } from "vitest";
import { VectorArena } from "../../../src/optim/index.js";

const f = Math.fround;

/** Numbers of mixed sizes and signs, the same each time. */
function numbers(length: number, phase: number): number[] {
  return Array.from({ length }, (_, i) => f(Math.sin(i * 12.9898 + phase) * 10 ** ((i % 7) - 3)));
}

function taken(arena: VectorArena, values: readonly number[]): Float32Array {
  const vector = arena.take(values.length);
  vector.set(values);
  return vector;
}

describe("the vector arena", () => {
  it.each([1, 3, 4, 17, 1000])("adds %i values as float32 addition does", (length) => {
    const arena = new VectorArena();
    const [a, b] = [numbers(length, 1), numbers(length, 2)];
    const target = taken(arena, a);
    arena.addTo(target, taken(arena, b));
    expect([...target]).toEqual(a.map((value, i) => f(value + b[i])));
  });

  it.each([1, 5, 64])("mixes %i values with each operation rounded to float32", (length) => {
    const arena = new VectorArena();
    const [old, source] = [numbers(length, 3), numbers(length, 4)];
    const next = arena.take(length);
    arena.mix(taken(arena, old), taken(arena, source), 0.99, next);
    const [m, share] = [f(0.99), f(1 - 0.99)];
    expect([...next]).toEqual(old.map((value, i) => f(f(m * value) + f(share * source[i]))));
  });

  it("uses released vectors again and asks for no more memory", () => {
    const arena = new VectorArena();
    arena.release(arena.take(100_000));
    const before = arena.bytes;
    for (let step = 0; step < 50; step++) {
      const vector = arena.take(100_000);
      vector.fill(step);
      arena.release(vector);
    }
    expect(arena.bytes).toBe(before);
  });

  it("keeps vectors apart while it grows", () => {
    const arena = new VectorArena();
    const vectors = Array.from({ length: 40 }, (_, i) => taken(arena, new Array<number>(10_001).fill(i)));
    vectors.forEach((vector, i) => {
      expect(vector.every((value) => value === i)).toBe(true);
    });
  });

  it("refuses vectors of another memory", () => {
    const arena = new VectorArena();
    expect(() => arena.addTo(arena.take(4), new Float32Array(4))).toThrow("their own arena");
  });

  it("refuses more than 4 GiB, by name", () => {
    const arena = new VectorArena();
    expect(() => arena.take(2 ** 30)).toThrow(/does not fit/);
  });
});
