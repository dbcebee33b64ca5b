import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { ImageSource } from "../../../src/data/dataset.js";
import { openImages } from "../../../src/data/open.js";
import { DISTANCE, type Shape } from "../../../src/data/synthetic/shapes.js";

async function drawn(source: ImageSource, index: number, size: number): Promise<Uint8Array> {
  const pixels = new Uint8Array(size * size * 3);
  await source.read(index, pixels, 0);
  return pixels;
}

describe("the synthetic set", () => {
  it("has the splits, classes and balanced labels of its spec", async () => {
    const { classes, splits } = await openImages("synthetic:classes=3,train=7,test=2", { decodeSize: 32 });
    expect(classes.length).toBe(3);
    expect(new Set(classes).size).toBe(3);
    expect([...splits.train.labels]).toEqual([0, 1, 2, 0, 1, 2, 0]);
    expect([...splits.test.labels]).toEqual([0, 1]);
    expect(splits.train.nameOf(6)).toBe("synthetic train 6");
  });

  it("names 20 classes apart, of which no single factor tells the class", async () => {
    const { classes } = await openImages("synthetic:classes=20", { decodeSize: 32 });
    expect(new Set(classes).size).toBe(20);
    for (const count of [10, 20]) {
      for (const factor of [0, 1, 2]) {
        const values = classes.slice(0, count).map((name) => name.split("-")[factor]);
        for (const value of values) expect(values.filter((other) => other === value).length).toBeGreaterThanOrEqual(2);
      }
    }
  });

  it("draws a sample alike each time, and otherwise for another index, split or seed", async () => {
    const pixelsOf = async (spec: string, split: "train" | "test", index: number) => {
      const { splits } = await openImages(spec, { decodeSize: 32 });
      return drawn(splits[split], index, 32);
    };
    const sample = await pixelsOf("synthetic:classes=2", "train", 4);
    expect(await pixelsOf("synthetic:classes=2,train=100", "train", 4)).toEqual(sample);
    expect(await pixelsOf("synthetic:classes=2", "train", 6)).not.toEqual(sample);
    expect(await pixelsOf("synthetic:classes=2", "test", 4)).not.toEqual(sample);
    expect(await pixelsOf("synthetic:classes=2,seed=1", "train", 4)).not.toEqual(sample);
  });

  it("draws the pixels of this version: a change here must raise DRAWING_VERSION", async () => {
    const { splits } = await openImages("synthetic:classes=20", { decodeSize: 32 });
    const hash = createHash("sha256");
    for (let index = 0; index < 40; index++) hash.update(await drawn(splits.train, index, 32));
    expect(hash.digest("hex")).toMatchInlineSnapshot(
      `"da9c410613a9911590428da7a8fa6215aa4c16f8aeb809bde62064ae20cd8c56"`,
    );
  });

  it.each([16, 256])("draws at a side of %i pixels", async (size) => {
    const { splits } = await openImages(`synthetic:size=${size},train=10`, { decodeSize: size });
    for (let index = 0; index < 10; index++) {
      const pixels = await drawn(splits.train, index, size);
      expect(new Set(pixels).size).toBeGreaterThan(30);
    }
  });

  it("shows the same scene at another size", async () => {
    const small = await openImages("synthetic:size=64", { decodeSize: 32 });
    const direct = await openImages("synthetic:size=32", { decodeSize: 32 });
    for (let index = 0; index < 10; index++) {
      const [a, b] = [await drawn(small.splits.train, index, 32), await drawn(direct.splits.train, index, 32)];
      const difference = a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
      expect(difference).toBeLessThan(20);
    }
  });

  it("hashes its parameters", async () => {
    const hashOf = async (spec: string) => (await openImages(spec, { decodeSize: 32 })).manifestHash;
    expect(await hashOf("synthetic")).toBe(await hashOf("synthetic:classes=10,seed=0"));
    expect(await hashOf("synthetic:seed=1")).not.toBe(await hashOf("synthetic"));
  });
});

describe("a shape's distance", () => {
  it.each<[Shape, number, number, number]>([
    ["disc", 0, 0, -0.9],
    ["disc", 3, 4, 4.1],
    ["square", 0.5, 0, -0.25],
    ["square", 1.05, -1.15, 0.5],
    ["cross", 0, -2, 1],
    ["cross", 0.94, 0.94, 0.6],
    ["triangle", 0, 0, -0.5],
    ["triangle", 0, -1, 0],
    ["triangle", 0, 1.5, 1],
    ["triangle", 0, -3, 2],
    ["star", 0, -1, 0],
    ["star", 0, -1.5, 0.5],
    ["star", Math.sin((2 * Math.PI) / 5), -Math.cos((2 * Math.PI) / 5), 0],
    ["star", 0, 0.45, 0],
  ])("of the %s at (%f, %f) is %f", (shape, x, y, distance) => {
    expect(DISTANCE[shape](x, y)).toBeCloseTo(distance, 9);
  });

  it.each(Object.entries(DISTANCE))("of the %s is negative inside and nowhere steeper than 1", (_, distance) => {
    expect(distance(0, 0)).toBeLessThan(0);
    for (let i = 0; i < 400; i++) {
      const x = (i % 20) / 8 - 1.2;
      const y = Math.floor(i / 20) / 8 - 1.2;
      expect(Math.abs(distance(x + 0.01, y) - distance(x, y))).toBeLessThanOrEqual(0.01 + 1e-9);
      expect(distance(-x, y)).toBeCloseTo(distance(x, y), 9);
    }
  });
});
