import { describe, expect, it } from "vitest";
import { LEAST_SHARD_SIZE, parameterShards, resnetArchitecture } from "../../../src/models/index.js";

const layoutOf = (encoder: "resnet-tiny" | "resnet18" | "resnet50") =>
  resnetArchitecture({ encoder, stem: "3x3", head: "mlp", embeddingDim: 128 }).layout;

describe("parameter shards", () => {
  it.each(["resnet-tiny", "resnet18", "resnet50"] as const)("cover %s once, at tensor borders", (encoder) => {
    const layout = layoutOf(encoder);
    const borders = new Set(layout.parameters.map(({ offset }) => offset));
    let end = 0;
    for (const { offset, size } of parameterShards(layout)) {
      expect(offset).toBe(end);
      expect(borders.has(offset)).toBe(true);
      end = offset + size;
    }
    expect(end).toBe(layout.parameterCount);
  });

  it("are all of the least size, but for the last", () => {
    const shards = parameterShards(layoutOf("resnet18"));
    expect(shards.length).toBeGreaterThan(3);
    for (const { size } of shards.slice(0, -1)) expect(size).toBeGreaterThanOrEqual(LEAST_SHARD_SIZE);
  });

  it("are one where everything fits, and one a tensor where the least size is 1", () => {
    const layout = layoutOf("resnet-tiny");
    expect(parameterShards(layout)).toEqual([{ offset: 0, size: layout.parameterCount }]);
    expect(parameterShards(layout, 1)).toHaveLength(layout.parameters.length);
  });
});
