import { describe, expect, it } from "vitest";
import { LEAST_BUCKET_SIZE, parameterBuckets, resnetArchitecture } from "../../../src/models/index.js";

const layoutOf = (encoder: "resnet-tiny" | "resnet18" | "resnet50") =>
  resnetArchitecture({ encoder, stem: "3x3", head: "mlp", embeddingDim: 128 }).layout;

describe("parameter buckets", () => {
  it.each(["resnet-tiny", "resnet18", "resnet50"] as const)("cover %s once, at tensor borders", (encoder) => {
    const layout = layoutOf(encoder);
    const borders = new Set(layout.parameters.map(({ offset }) => offset));
    let end = 0;
    for (const { offset, size } of parameterBuckets(layout)) {
      expect(offset).toBe(end);
      expect(borders.has(offset)).toBe(true);
      end = offset + size;
    }
    expect(end).toBe(layout.parameterCount);
  });

  it("are all of the least size, but for the last", () => {
    const buckets = parameterBuckets(layoutOf("resnet18"));
    expect(buckets.length).toBeGreaterThan(3);
    for (const { size } of buckets.slice(0, -1)) expect(size).toBeGreaterThanOrEqual(LEAST_BUCKET_SIZE);
  });

  it("are one where everything fits, and one a tensor where the least size is 1", () => {
    const layout = layoutOf("resnet-tiny");
    expect(parameterBuckets(layout)).toEqual([{ offset: 0, size: layout.parameterCount }]);
    expect(parameterBuckets(layout, 1)).toHaveLength(layout.parameters.length);
  });
});
