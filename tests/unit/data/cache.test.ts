import { describe, expect, it } from "vitest";
import { cacheDecoded } from "../../../src/data/cache.js";
import { MemorySource } from "./memory-source.js";

const BYTES = 2 * 2 * 3;

async function valueOf(
  source: { read(index: number, target: Uint8Array, offset: number): Promise<void> },
  index: number,
) {
  const target = new Uint8Array(BYTES + 2);
  await source.read(index, target, 1);
  expect(target[0] + target[BYTES + 1]).toBe(0);
  return [...new Set(target.subarray(1, -1))];
}

describe("the cache of decoded images", () => {
  it("reads each sample that fits once, and the others each time", async () => {
    const source = new MemorySource(5, 2);
    const cached = cacheDecoded(source, 2, 3 * BYTES + 1);
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < 5; index++) expect(await valueOf(cached, index)).toEqual([index]);
    }
    expect(source.reads).toEqual([0, 1, 2, 3, 4, 3, 4]);
  });

  it("holds the same samples over several pages", async () => {
    const source = new MemorySource(600, 2);
    const cached = cacheDecoded(source, 2, 600 * BYTES);
    for (const index of [0, 255, 256, 511, 512, 599, 599, 0, 256])
      expect(await valueOf(cached, index)).toEqual([index % 256]);
    expect(source.reads).toEqual([0, 255, 256, 511, 512, 599]);
  });

  it("gives names, labels and length of what it caches", () => {
    const source = new MemorySource(3, 2);
    const cached = cacheDecoded(source, 2, 1000);
    expect([cached.length, cached.nameOf(2), cached.labels]).toEqual([3, "memory 2", source.labels]);
  });

  it("does not keep a corrupt sample", async () => {
    const source = new MemorySource(2, 2, new Set([1]));
    const cached = cacheDecoded(source, 2, 1000);
    for (let round = 0; round < 2; round++) await expect(valueOf(cached, 1)).rejects.toThrow("cannot decode memory 1");
    expect(source.reads).toEqual([1, 1]);
  });

  it("serves two reads of one sample that overlap", async () => {
    const cached = cacheDecoded(new MemorySource(300, 2), 2, 300 * BYTES);
    expect(await Promise.all([valueOf(cached, 7), valueOf(cached, 7)])).toEqual([[7], [7]]);
  });

  it("leaves out what is in memory already, and a bound below one sample", () => {
    const source = new MemorySource(3, 2);
    expect(cacheDecoded(source, 2, BYTES - 1)).toBe(source);
    const resident = Object.assign(new MemorySource(3, 2), { resident: true as const });
    expect(cacheDecoded(resident, 2, 1000)).toBe(resident);
  });
});
