import { describe, expect, it } from "vitest";
import { featureChunks, splitEvenly } from "../../../coordinator/planning.js";

describe("planning", () => {
  it("cuts ranks into contiguous runs, the longer first, and none for workers too many", () => {
    expect(splitEvenly([0, 1, 2, 3, 4], 2)).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
    expect(splitEvenly([0, 1], 3)).toEqual([[0], [1], []]);
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
