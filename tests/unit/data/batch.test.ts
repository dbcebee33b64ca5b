import { describe, expect, it } from "vitest";
import { readBatch } from "../../../src/data/batch.js";
import { MemorySource } from "./memory-source.js";

const BYTES = 2 * 2 * 3;

/** First byte of each sample in a batch. */
const firstBytes = (images: Uint8Array) => [...images.filter((_, i) => i % BYTES === 0)];

describe("reading a batch", () => {
  it("puts samples side by side in the order asked for", async () => {
    const images = new Uint8Array(3 * BYTES);
    const held = await readBatch(new MemorySource(10, 2), [7, 0, 7], images, unexpected);
    expect([...images]).toEqual([7, 0, 7].flatMap((value) => new Array(BYTES).fill(value)));
    expect([...held]).toEqual([7, 0, 7]);
  });

  it("replaces a corrupt sample by the next that decodes, past the end by the first, and reports each by name", async () => {
    const reported: [string, number][] = [];
    const source = new MemorySource(6, 2, new Set([1, 2, 5]));
    const images = new Uint8Array(4 * BYTES);
    const held = await readBatch(source, Int32Array.of(1, 4, 5, 2), images, (...report) => reported.push(report));
    expect([...held]).toEqual([3, 4, 0, 3]);
    expect(firstBytes(images)).toEqual([3, 4, 0, 3]);
    expect(reported.map(([name]) => name).sort()).toEqual(["memory 1", "memory 2", "memory 2", "memory 5"]);
    expect(reported.every(([name, index]) => name === `memory ${index}`)).toBe(true);
  });

  it("refuses a source of which nothing decodes", async () => {
    const source = new MemorySource(3, 2, new Set([0, 1, 2]));
    const reading = readBatch(source, [0], new Uint8Array(BYTES), () => undefined);
    await expect(reading).rejects.toMatchObject({ name: "UserError", code: "DATA_ALL_CORRUPT" });
  });

  it("stops where the caller refuses a corrupt sample", async () => {
    const source = new MemorySource(100, 2, new Set([0]));
    const refusal = new Error("enough");
    const indices = Array.from({ length: 100 }, (_, index) => index);
    const reading = readBatch(source, indices, new Uint8Array(100 * BYTES), () => {
      throw refusal;
    });
    await expect(reading).rejects.toBe(refusal);
    expect(source.reads.length).toBeLessThan(20);
  });

  it("passes other errors on", async () => {
    const broken = Object.assign(new MemorySource(1, 2), { read: () => Promise.reject(new TypeError("a bug")) });
    await expect(readBatch(broken, [0], new Uint8Array(BYTES), unexpected)).rejects.toThrow(TypeError);
  });

  it("reads at most 8 at once", async () => {
    const source = new MemorySource(50, 2);
    await readBatch(
      source,
      Array.from({ length: 50 }, (_, index) => index),
      new Uint8Array(50 * BYTES),
      unexpected,
    );
    expect(source.mostUnderWay).toBe(8);
  });

  it("reads nothing for no indices", async () => {
    expect(await readBatch(new MemorySource(5, 2), [], new Uint8Array(0), unexpected)).toEqual(new Int32Array(0));
  });
});

function unexpected(name: string): never {
  throw new Error(`${name} is not corrupt`);
}
