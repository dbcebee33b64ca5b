import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KeyQueue } from "../../../src/objectives/key-queue.js";

const rows = (queue: KeyQueue) => Array.from({ length: queue.size }, (_, row) => queue.keys[row * queue.dimension]);

describe("the queue of keys", () => {
  it("drops the oldest first, also where a block wraps around its end (K is no multiple of the batch)", () => {
    const queue = KeyQueue.restore(Float32Array.from([0, 0, 0, 0, 0]), 5, 1, 0);
    queue.append(Float32Array.of(1, 2, 3));
    expect(rows(queue)).toEqual([1, 2, 3, 0, 0]);
    queue.append(Float32Array.of(4, 5, 6));
    expect(rows(queue)).toEqual([6, 2, 3, 4, 5]);
  });

  it("takes a block as large as itself, and none larger", () => {
    const queue = KeyQueue.restore(Float32Array.from([1, 2, 3, 4]), 2, 2, 1);
    queue.append(Float32Array.of(5, 6, 7, 8));
    expect([...queue.keys]).toEqual([7, 8, 5, 6]);
    expect(() => queue.append(new Float32Array(6))).toThrow(RangeError);
    expect(() => queue.append(new Float32Array(3))).toThrow(RangeError);
  });

  it("goes on from a stored copy as if it had never been away", () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 20 }), fc.integer({ min: 1, max: 12 }), (size, blocks) => {
        const whole = KeyQueue.random(size, 2, 7);
        let copy = KeyQueue.random(size, 2, 7);
        for (let block = 0; block < blocks; block++) {
          const keys = Float32Array.from({ length: 6 }, (_, i) => 10 * block + i);
          whole.append(keys);
          copy = KeyQueue.restore(copy.keys, size, 2, 3 * block);
          copy.append(keys);
        }
        expect([...copy.keys]).toEqual([...whole.keys]);
      }),
    );
  });

  it("starts with keys of unit length that depend on the seed alone", () => {
    const queue = KeyQueue.random(10, 16, 3);
    for (let row = 0; row < 10; row++) {
      const key = queue.keys.subarray(row * 16, (row + 1) * 16);
      expect(key.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 5);
    }
    expect([...KeyQueue.random(10, 16, 3).keys]).toEqual([...queue.keys]);
    expect([...KeyQueue.random(10, 16, 4).keys]).not.toEqual([...queue.keys]);
  });
});
