import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { epochPermutation, positionOf, samplesOf } from "../../../src/data/permutation.js";

const seeds = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const epochs = fc.integer({ min: 0, max: 1000 });

describe("an epoch's permutation", () => {
  it("holds every sample exactly once", () => {
    fc.assert(
      fc.property(seeds, epochs, fc.integer({ min: 0, max: 300 }), (seed, epoch, length) => {
        const sorted = epochPermutation(seed, epoch, length).sort();
        expect(sorted).toEqual(Int32Array.from({ length }, (_, index) => index));
      }),
    );
  });

  it("is a pure function of seed, epoch and length, and differs between seeds and epochs", () => {
    const order = epochPermutation(7, 3, 1000);
    expect(epochPermutation(7, 3, 1000)).toEqual(order);
    expect(epochPermutation(8, 3, 1000)).not.toEqual(order);
    expect(epochPermutation(7, 4, 1000)).not.toEqual(order);
  });

  it("puts each sample at each place equally often", () => {
    const rounds = 6000;
    const counts = new Int32Array(25);
    for (let epoch = 0; epoch < rounds; epoch++) {
      epochPermutation(1, epoch, 5).forEach((sample, place) => counts[5 * place + sample]++);
    }
    // Chi-squared over the 25 cells has 16 degrees of freedom; 39.3 is passed with chance 0.001.
    const expected = rounds / 5;
    const chiSquared = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chiSquared).toBeLessThan(39.3);
  });
});

describe("samples of a rank", () => {
  const worlds = fc.record({
    worldSize: fc.integer({ min: 1, max: 6 }),
    batchSize: fc.integer({ min: 1, max: 7 }),
    length: fc.integer({ min: 0, max: 400 }),
  });

  it("cover an epoch's whole global batches exactly once, in order, and nothing behind them", () => {
    fc.assert(
      fc.property(seeds, epochs, worlds, (seed, epoch, { worldSize, batchSize, length }) => {
        const permutation = epochPermutation(seed, epoch, length);
        const stepsPerEpoch = Math.floor(length / (worldSize * batchSize));
        const taken: number[] = [];
        for (let step = 0; step < stepsPerEpoch; step++) {
          for (let rank = 0; rank < worldSize; rank++)
            taken.push(...samplesOf(permutation, step, rank, worldSize, batchSize));
        }
        expect(taken).toEqual([...permutation.subarray(0, stepsPerEpoch * worldSize * batchSize)]);
        expect(() => samplesOf(permutation, stepsPerEpoch, 0, worldSize, batchSize)).toThrow(RangeError);
      }),
    );
  });

  it("lie at stepInEpoch·W·B + rank·B", () => {
    const identity = Int32Array.from({ length: 100 }, (_, index) => index);
    expect([...samplesOf(identity, 2, 1, 4, 3)]).toEqual([27, 28, 29]);
  });

  it("refuses a rank outside the world", () => {
    expect(() => samplesOf(new Int32Array(100), 0, 4, 4, 3)).toThrow(RangeError);
    expect(() => samplesOf(new Int32Array(100), 0, -1, 4, 3)).toThrow(RangeError);
  });
});

describe("a step's position", () => {
  it("counts whole epochs and the steps within one", () => {
    expect([0, 4, 5, 13].map((step) => positionOf(step, 5))).toEqual([
      { epoch: 0, stepInEpoch: 0 },
      { epoch: 0, stepInEpoch: 4 },
      { epoch: 1, stepInEpoch: 0 },
      { epoch: 2, stepInEpoch: 3 },
    ]);
  });
});
