import { describe, expect, it } from "vitest";
import { evaluatedCount, evaluationChunks } from "../../../coordinator/evaluation.js";
import { featureChunks, splitBySpeed } from "../../../coordinator/planning.js";
import { PRESETS } from "../../../src/config/presets.js";
import { MemorySource, memoryDataset } from "../data/memory-source.js";

const single = (paces: readonly (number | null)[]) => paces.map((pace) => ({ pace, devices: 1 }));

describe("planning", () => {
  it("cuts ranks into contiguous runs, the longer first, and none for workers too many", () => {
    expect(splitBySpeed([0, 1, 2, 3, 4], single([null, null]))).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
    expect(splitBySpeed([0, 1], single([null, null, null]))).toEqual([[0], [1], []]);
  });

  it("gives a worker of half the speed half the ranks, and lets noise move none", () => {
    const ranks = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    const lengths = (paces: (number | null)[]) => splitBySpeed(ranks, single(paces)).map(({ length }) => length);
    expect(lengths([100, 100, 200])).toEqual([4, 4, 2]);
    expect(lengths([100, 110, 90])).toEqual(lengths([null, null, null]));
    expect(lengths([100, null, 100])).toEqual([4, 3, 3]);
    expect(lengths([100, 100, 100_000]).reduce((a, b) => a + b)).toBe(10);
  });

  it("gives a worker of four devices four times the ranks", () => {
    const workers = [
      { pace: null, devices: 1 },
      { pace: null, devices: 4 },
    ];
    expect(splitBySpeed([0, 1, 2, 3, 4], workers)).toEqual([[0], [1, 2, 3, 4]]);
    const slow = [
      { pace: 100, devices: 1 },
      { pace: 200, devices: 2 },
    ];
    expect(splitBySpeed([0, 1, 2, 3], slow).map(({ length }) => length)).toEqual([2, 2]);
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

it("an evaluation leaves out samples without a label, which stand behind the others", () => {
  const train = new MemorySource(5, 2);
  train.labels.fill(-1, 3);
  const dataset = { ...memoryDataset(train, 2), classes: ["a", "b", "c"] };
  const tested = { ...dataset, splits: { train, test: new MemorySource(2, 2) } };
  expect(evaluatedCount(PRESETS.quickstart, tested, "train")).toBe(3);
  expect(evaluationChunks(PRESETS.quickstart, tested)).toEqual([
    { split: "train", start: 0, count: 3 },
    { split: "test", start: 0, count: 2 },
  ]);
  expect(evaluationChunks(PRESETS.quickstart, dataset)).toEqual([]);
});
