import { describe, expect, it } from "vitest";
import { keyMomentumAt, learningRateAt } from "../../../src/optim/index.js";

describe("the learning rate", () => {
  it("follows half a cosine from the peak towards 0", () => {
    const schedule = { kind: "cosine" as const, peak: 0.06, warmupSteps: 0, totalSteps: 100 };
    expect(learningRateAt(0, schedule)).toBe(0.06);
    expect(learningRateAt(50, schedule)).toBeCloseTo(0.03, 12);
    // 0.06 · ½ · (1 + cos(0.99π))
    expect(learningRateAt(99, schedule)).toBeCloseTo(1.4803e-5, 8);
  });

  it("rises linearly to the peak first", () => {
    const schedule = { kind: "cosine" as const, peak: 1, warmupSteps: 4, totalSteps: 8 };
    expect([0, 1, 2, 3, 4].map((step) => learningRateAt(step, schedule))).toEqual([0.25, 0.5, 0.75, 1, 1]);
  });

  it("survives a run that is all warm-up", () => {
    expect(learningRateAt(4, { kind: "cosine", peak: 1, warmupSteps: 4, totalSteps: 4 })).toBe(1);
  });

  it("falls to a tenth after 60% and 80% of the run, or stays, where that is asked for", () => {
    const schedule = { peak: 1, warmupSteps: 2, totalSteps: 10 };
    const over = (kind: "step" | "constant") =>
      Array.from({ length: 10 }, (_, step) => Math.round(1e6 * learningRateAt(step, { ...schedule, kind })) / 1e6);
    expect(over("step")).toEqual([0.5, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]);
    expect(over("constant")).toEqual([0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
  });
});

describe("the key encoder's momentum", () => {
  it("rises from its start to 1 by half a cosine as in MoCo v3, or stays", () => {
    const cosine = { kind: "cosine" as const, start: 0.99, totalSteps: 300 };
    // 1 − 0.01 · ½ · (1 + cos(π · step / 300))
    expect(keyMomentumAt(0, cosine)).toBe(0.99);
    expect(keyMomentumAt(100, cosine)).toBeCloseTo(0.9925, 14);
    expect(keyMomentumAt(150, cosine)).toBeCloseTo(0.995, 14);
    expect(keyMomentumAt(300, cosine)).toBe(1);
    expect(keyMomentumAt(150, { ...cosine, kind: "constant" })).toBe(0.99);
  });
});
