import { expect, it } from "vitest";
import { isFiniteThroughout } from "../../../worker/non-finite.js";

it.each([0, 1, 3, 4, 5, 8, 1003])("finds NaN and infinity anywhere in %i values, and nothing else", (length) => {
  const values = Float32Array.from({ length }, (_, i) => (i % 2 === 0 ? 3e38 : -1e-45));
  expect(isFiniteThroughout(values)).toBe(true);
  for (const bad of [NaN, Infinity, -Infinity]) {
    for (let at = 0; at < length; at++) {
      const spoilt = values.slice();
      spoilt[at] = bad;
      expect(isFiniteThroughout(spoilt), `${String(bad)} at ${at}`).toBe(false);
    }
  }
});
