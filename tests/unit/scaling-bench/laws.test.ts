import { describe, expect, it } from "vitest";
import { amdahl, peakOf, speedUpBy, universal } from "../../../src/cli/scaling-bench/laws.js";

const COUNTS = [1, 2, 4, 8];
const madeBy = (serial: number, crosstalk: number) =>
  COUNTS.map((workers) => ({ workers, speedUp: speedUpBy({ serial, crosstalk }, workers) }));

describe("speed-up by a law", () => {
  it("is Amdahl's: a twentieth of serial work never lets it be more than 20", () => {
    // 1 / (0.05 + 0.95 / 20), Amdahl's own form.
    expect(speedUpBy({ serial: 0.05, crosstalk: 0 }, 20)).toBeCloseTo(1 / (0.05 + 0.95 / 20), 12);
    expect(speedUpBy({ serial: 0.05, crosstalk: 0 }, 1e9)).toBeCloseTo(20, 5);
  });

  it("is most, with crosstalk, at √((1 − σ) / κ) workers", () => {
    const law = { serial: 0.1, crosstalk: 0.01 };
    const peak = peakOf(law);
    expect(peak).toBeCloseTo(Math.sqrt(90), 12);
    expect(speedUpBy(law, 9)).toBeGreaterThan(speedUpBy(law, 8));
    expect(speedUpBy(law, 11)).toBeLessThan(speedUpBy(law, 10));
    expect(peakOf({ serial: 0.1, crosstalk: 0 })).toBeNull();
  });
});

describe("a fitted law", () => {
  it.each([0, 0.03, 0.4, 1])("is Amdahl's with the serial share %d that the speed-ups have", (serial) => {
    expect(amdahl(madeBy(serial, 0)).serial).toBeCloseTo(serial, 12);
  });

  it.each([
    [0.03, 0.002],
    [0, 0.01],
    [0.2, 0],
  ])("is the USL with the σ %d and κ %d that the speed-ups have", (serial, crosstalk) => {
    const found = universal(madeBy(serial, crosstalk));
    expect(found.serial).toBeCloseTo(serial, 12);
    expect(found.crosstalk).toBeCloseTo(crosstalk, 12);
  });

  it("goes through the points where the USL has three numbers of workers, one among them", () => {
    const points = [1, 1.9, 3.4].map((speedUp, index) => ({ workers: 2 ** index, speedUp }));
    const law = universal(points);
    for (const { workers, speedUp } of points) expect(speedUpBy(law, workers)).toBeCloseTo(speedUp, 12);
  });

  it("is the ideal where workers are faster than that", () => {
    const faster = COUNTS.map((workers) => ({ workers, speedUp: workers ** 1.1 }));
    expect(amdahl(faster)).toEqual({ serial: 0, crosstalk: 0 });
    expect(universal(faster)).toEqual({ serial: 0, crosstalk: 0 });
  });

  it("has no coefficient below 0: the other is the best one alone", () => {
    // Eight workers lose less than two and four foretell: κ would be below 0.
    const relieved = [1, 1.6, 2.6, 5.6].map((speedUp, index) => ({ workers: 2 ** index, speedUp }));
    expect(universal(relieved)).toEqual(amdahl(relieved));
    // Two workers are faster than ideal, eight are not: σ would be below 0.
    const sudden = [1, 2.1, 3.8, 5].map((speedUp, index) => ({ workers: 2 ** index, speedUp }));
    const { serial, crosstalk } = universal(sudden);
    expect(serial).toBe(0);
    const squares = (kappa: number) =>
      sudden.reduce((sum, { workers: n, speedUp }) => sum + (n / speedUp - 1 - kappa * n * (n - 1)) ** 2, 0);
    for (const other of [0.9, 1.1]) expect(squares(other * crosstalk)).toBeGreaterThan(squares(crosstalk));
  });
});
