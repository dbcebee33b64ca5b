import { describe, expect, it } from "vitest";
import { knnAccuracy, neighbourhoods } from "../../../src/evaluation/knn.js";

/** Unit vectors at these angles, in degrees. */
function at(degrees: readonly number[], labels: readonly number[]) {
  const features = degrees.flatMap((angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)]);
  // Lengths must not matter: every second vector is ten times as long.
  const scaled = features.map((value, i) => (i % 4 < 2 ? value : 10 * value));
  return { features: Float32Array.from(scaled), labels: Int32Array.from(labels), dimension: 2 };
}

describe("weighted kNN", () => {
  it("takes the class of the nearest with k = 1", () => {
    const bank = at([0, 90], [0, 1]);
    const test = at([10, 80, 44, 46], [0, 1, 0, 0]);
    expect(knnAccuracy(bank, test, { neighbours: 1, temperature: 0.1, classes: 2 })).toBe(0.75);
  });

  it("weighs votes by exp(similarity / τ): one near neighbour against two farther ones", () => {
    const bank = at([0, 60, 61], [0, 1, 1]);
    const test = at([10], [0]);
    // cos 10° = 0.985; cos 50° = 0.643, cos 51° = 0.629. τ = 0.1: e^9.85 > e^6.43 + e^6.29; τ = 1: e^.985 < e^.643 + e^.629
    expect(knnAccuracy(bank, test, { neighbours: 3, temperature: 0.1, classes: 2 })).toBe(1);
    expect(knnAccuracy(bank, test, { neighbours: 3, temperature: 1, classes: 2 })).toBe(0);
  });

  it("votes with the whole bank where k is larger, and refuses an empty one", () => {
    const bank = at([0, 5, 90], [0, 0, 1]);
    expect(knnAccuracy(bank, at([1], [0]), { neighbours: 200, temperature: 0.1, classes: 2 })).toBe(1);
    expect(() => knnAccuracy(at([], []), bank, { neighbours: 1, temperature: 0.1, classes: 2 })).toThrow(RangeError);
  });

  it("classifies more test samples than it compares at a time", () => {
    const angles = Array.from({ length: 1201 }, (_, i) => (i % 2 === 0 ? 1 : 89));
    const test = at(
      angles,
      angles.map((angle) => (angle === 1 ? 0 : 1)),
    );
    expect(knnAccuracy(at([0, 90], [0, 1]), test, { neighbours: 2, temperature: 0.1, classes: 2 })).toBe(1);
  });
});

describe("neighbourhoods", () => {
  const cosine = (degrees: number) => Math.cos((degrees * Math.PI) / 180);
  const bank = at([0, 90, 30, 200, 10], [0, 1, 0, 1, 0]);
  const test = at([80, 205, 12], [1, 1, 0]);

  it("are the nearest of the bank by cosine, the nearest first, of the samples asked for", () => {
    const [first, second, ...more] = neighbourhoods(bank, test, [2, 1], 3);
    expect(more).toEqual([]);
    expect([first?.sample, first?.neighbours.map(({ sample }) => sample)]).toEqual([2, [4, 0, 2]]);
    expect([second?.sample, second?.neighbours.map(({ sample }) => sample)]).toEqual([1, [3, 1, 0]]);
    first?.neighbours.forEach(({ similarity }, rank) => {
      expect(similarity).toBeCloseTo(cosine([2, 12, 18][rank] ?? 0), 5);
    });
    expect(second?.neighbours[2]?.similarity).toBeCloseTo(cosine(155), 5);
  });

  it("are of the whole bank where it has no more", () => {
    const [only] = neighbourhoods(bank, test, [0], 9);
    expect(only?.neighbours.map(({ sample }) => sample)).toEqual([1, 2, 4, 0, 3]);
    expect(neighbourhoods(bank, test, [], 3)).toEqual([]);
  });
});
