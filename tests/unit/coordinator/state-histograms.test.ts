import { expect, it } from "vitest";
import { stateHistograms } from "../../../coordinator/state-histograms.js";
import { LayoutBuilder } from "../../../src/models/parameters.js";

function layout() {
  const builder = new LayoutBuilder();
  builder.parameter("conv1.weight", [1, 1, 2, 2], "convolution");
  builder.parameter("fc.bias", [3], "dense-bias");
  return builder.build();
}

const query = Float32Array.of(1, 2, 3, 4, -5, -5, -5);

it("each parameter has a histogram, and the similarity of keys half a queue apart, their labels left out", () => {
  // [K, D + 1]: two keys, the same two turned, with labels behind; the last has no partner.
  const keys = Float32Array.of(1, 0, 7, 0, 1, 8, 1, 0, 9, 0, -1, 3, 1, 1, 5);
  const found = stateHistograms(layout(), query, { keys, rowLength: 3, dimension: 2 });
  expect(found.map(({ tag, histogram: { min, max, count } }) => [tag, min, max, count])).toEqual([
    ["parameters/conv1.weight", 1, 4, 4],
    ["parameters/fc.bias", -5, -5, 3],
    ["queue/similarity", -1, 1, 2],
  ]);
});

it("a method without a queue has none of it", () => {
  const found = stateHistograms(layout(), query, { keys: new Float32Array(0), rowLength: 0, dimension: 2 });
  expect(found.map(({ tag }) => tag)).toEqual(["parameters/conv1.weight", "parameters/fc.bias"]);
});
