import { expect, it } from "vitest";
import { spread } from "../../../src/data/spread.js";

it("takes all of a few, and of many as many as are wanted", () => {
  expect(spread(0, 6)).toEqual([]);
  expect(spread(4, 6)).toEqual([0, 1, 2, 3]);
  for (let length = 12; length < 2000; length++) {
    const chosen = spread(length, 6);
    expect(new Set(chosen).size).toBe(6);
    expect(chosen.every((index) => Number.isInteger(index) && index >= 0 && index < length)).toBe(true);
  }
});

it.each([
  ["lie one behind the other", (index: number) => Math.floor(index / 100)],
  ["come in turn", (index: number) => index % 10],
])("meets most of the classes it can where they %s", (_, labelOf) => {
  expect(new Set(spread(1000, 6).map(labelOf)).size).toBeGreaterThanOrEqual(5);
});
