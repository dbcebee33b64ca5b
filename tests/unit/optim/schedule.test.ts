import { describe, expect, it } from "vitest";
import { learningRateAt } from "../../../src/optim/index.js";

describe("the learning rate", () => {
  it("follows half a cosine from the peak towards 0", () => {
    const schedule = { peak: 0.06, warmupSteps: 0, totalSteps: 100 };
    expect(learningRateAt(0, schedule)).toBe(0.06);
    expect(learningRateAt(50, schedule)).toBeCloseTo(0.03, 12);
    // 0.06 · ½ · (1 + cos(0.99π))
    expect(learningRateAt(99, schedule)).toBeCloseTo(1.4803e-5, 8);
  });

  it("rises linearly to the peak first", () => {
    const schedule = { peak: 1, warmupSteps: 4, totalSteps: 8 };
    expect([0, 1, 2, 3, 4].map((step) => learningRateAt(step, schedule))).toEqual([0.25, 0.5, 0.75, 1, 1]);
  });

  it("survives a run that is all warm-up", () => {
    expect(learningRateAt(4, { peak: 1, warmupSteps: 4, totalSteps: 4 })).toBe(1);
  });
});
