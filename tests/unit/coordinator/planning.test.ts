import { describe, expect, it } from "vitest";
import { featureChunks, splitBySpeed } from "../../../coordinator/planning.js";

describe("planning", () => {
  it("cuts ranks into contiguous runs, the longer first, and none for workers too many", () => {
    expect(splitBySpeed([0, 1, 2, 3, 4], [null, null])).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
    expect(splitBySpeed([0, 1], [null, null, null])).toEqual([[0], [1], []]);
  });

  it("gives a worker of half the speed half the ranks, and lets noise move none", () => {
    const ranks = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    const lengths = (paces: (number | null)[]) => splitBySpeed(ranks, paces).map(({ length }) => length);
    expect(lengths([100, 100, 200])).toEqual([4, 4, 2]);
    expect(lengths([100, 110, 90])).toEqual(lengths([null, null, null]));
    expect(lengths([100, null, 100])).toEqual([4, 3, 3]);
    expect(lengths([100, 100, 100_000]).reduce((a, b) => a + b)).toBe(10);
  });

  it("cuts both splits of an evaluation into chunks that cover them once", () => {
    expect(featureChunks(5, 2, 2)).toEqual([
      { split: "train", start: 0, count: 2 },
      { split: "train", start: 2, count: 2 },
      { split: "train", start: 4, count: 1 },
      { split: "test", start: 0, count: 2 },
    ]);
  });
});
