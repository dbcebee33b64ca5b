import { expect, it } from "vitest";
import { roundTicks } from "../../../src/cli/report/axis.js";

it.each([
  [0, 100, [0, 20, 40, 60, 80, 100]],
  [0, 8, [0, 2, 4, 6, 8]],
  [0, 0.3, [0, 0.1, 0.2, 0.3]],
  [-0.17, 1.49, [0, 0.5, 1]],
  [-30, 40, [-20, 0, 20, 40]],
  [0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]],
])("an axis from %d to %d has round numbers", (low, high, ticks) => {
  expect(roundTicks(low, high)).toEqual(ticks);
});
