import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LayoutBuilder } from "../../../src/models/parameters.js";
import { parameterShards, resnetArchitecture } from "../../../src/models/index.js";

const layoutOf = (sizes: readonly number[]) => {
  const builder = new LayoutBuilder();
  for (const [index, size] of sizes.entries()) builder.parameter(String(index), [size], "norm-shift");
  return builder.build();
};
const largest = (sizes: readonly number[], count: number) =>
  Math.max(...parameterShards(layoutOf(sizes), count).map(({ size }) => size));

/** By trying every way to cut. */
function leastPossible(sizes: readonly number[], count: number): number {
  if (count === 1) return sizes.reduce((sum, size) => sum + size, 0);
  const ways = Array.from({ length: sizes.length - count + 1 }, (_, more) => more + 1);
  return Math.min(
    ...ways.map((first) =>
      Math.max(leastPossible(sizes.slice(0, first), 1), leastPossible(sizes.slice(first), count - 1)),
    ),
  );
}

describe("parameter shards", () => {
  it("cover θ once, with every tensor whole and counted from its shard's first value", () => {
    const { layout } = resnetArchitecture({ encoder: "resnet18", stem: "3x3", head: "mlp", embeddingDim: 128 });
    for (const count of [1, 2, 3, 8, layout.parameters.length]) {
      const shards = parameterShards(layout, count);
      expect(shards).toHaveLength(count);
      const found = shards.flatMap(({ offset, layout: own }) =>
        own.parameters.map((parameter) => ({ ...parameter, offset: parameter.offset + offset })),
      );
      expect(found).toEqual(layout.parameters);
      expect(shards.map(({ layout: own }) => own.parameterCount)).toEqual(shards.map(({ size }) => size));
      // Statistics lie behind the gradients, so the last shard has them.
      expect(shards.map(({ layout: own }) => own.bufferCount)).toEqual([
        ...Array.from({ length: count - 1 }, () => 0),
        layout.bufferCount,
      ]);
    }
  });

  it("are as equal as tensor borders allow", () => {
    const cases = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(cases, fc.nat(), (sizes, draw) => {
        const count = 1 + (draw % sizes.length);
        expect(largest(sizes, count)).toBe(leastPossible(sizes, count));
      }),
    );
  });

  it("are refused where there are fewer tensors", () => {
    expect(() => parameterShards(layoutOf([1, 2]), 3)).toThrow("3 shards of 2 tensors");
    expect(() => parameterShards(layoutOf([1, 2]), 0)).toThrow(RangeError);
  });
});
