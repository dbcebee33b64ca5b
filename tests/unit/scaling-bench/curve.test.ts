import { describe, expect, it } from "vitest";
import { lawsOf, rowsOf } from "../../../src/cli/scaling-bench/curve.js";
import { speedUpBy } from "../../../src/cli/scaling-bench/laws.js";

const COUNTS = [1, 2, 4];
const LAW = { serial: 0.05, crosstalk: 0.01 };
/** images/s by a law, of a machine that is slower in some rounds, and of runs that scatter. */
const ROUNDS = [0.97, 1, 1.02, 0.99, 1.01].map((pace, round) =>
  COUNTS.map((workers, index) => 100 * pace * speedUpBy(LAW, workers) * (1 + 0.01 * (((round + index) % 3) - 1))),
);

describe("rows of rounds", () => {
  it("compare each run with one worker's in the same round, so a slow round is none of its business", () => {
    const [one, two] = rowsOf([1, 2], [[100, 180], [50, 90], [80, 160]]); // prettier-ignore
    expect(one.efficiency).toEqual({ median: 1, lowest: 1, highest: 1 });
    expect(two.imagesPerSecond).toEqual({ median: 160, lowest: 90, highest: 180 });
    expect(two.speedUp).toEqual({ median: 1.8, lowest: 1.8, highest: 2 });
    expect(two.efficiency).toEqual({ median: 0.9, lowest: 0.9, highest: 1 });
  });
});

describe("laws of rounds", () => {
  it("hold what the speed-ups were made of within their intervals", () => {
    const [, usl] = lawsOf(COUNTS, ROUNDS);
    expect(usl.law).toBe("USL");
    const { serial, crosstalk, predictions } = usl;
    expect(serial.low).toBeLessThanOrEqual(LAW.serial);
    expect(serial.high).toBeGreaterThanOrEqual(LAW.serial);
    expect(crosstalk?.low).toBeLessThanOrEqual(LAW.crosstalk);
    expect(crosstalk?.high).toBeGreaterThanOrEqual(LAW.crosstalk);
    expect(predictions.map(({ workers }) => workers)).toEqual([8, 16, 32]);
    const [{ speedUp, imagesPerSecond }] = predictions;
    expect(speedUp.low).toBeLessThanOrEqual(speedUpBy(LAW, 8));
    expect(speedUp.high).toBeGreaterThanOrEqual(speedUpBy(LAW, 8));
    expect(imagesPerSecond.value).toBeCloseTo(100 * speedUp.value, -1);
  });

  it("are the same again for the same rounds", () => {
    expect(lawsOf(COUNTS, ROUNDS)).toEqual(lawsOf(COUNTS, ROUNDS));
  });

  it("have no interval where all rounds agree, nor where there are too few", () => {
    const [{ serial }] = lawsOf([1, 2], Array.from({ length: 5 }, () => [100, 190])); // prettier-ignore
    expect([serial.low, serial.high]).toEqual([serial.value, serial.value]);
    expect(lawsOf([1, 2], [[100, 190], [99, 191]])[0].serial).toMatchObject({ low: null, high: null }); // prettier-ignore
  });

  it("are Amdahl's alone with two numbers of workers, and none with one", () => {
    expect(lawsOf([1, 2], [[100, 190]]).map(({ law, crosstalk }) => [law, crosstalk])).toEqual([["Amdahl", null]]);
    expect(lawsOf([1], [[100]])).toEqual([]);
  });
});
