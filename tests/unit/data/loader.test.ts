import { describe, expect, it } from "vitest";
import { runLength } from "../../../src/config/derived.js";
import { PRESETS } from "../../../src/config/presets.js";
import type { RunConfig } from "../../../src/config/schema.js";
import { drawViews } from "../../../src/data/draws.js";
import { Loader } from "../../../src/data/loader.js";
import { epochPermutation, keyOrder } from "../../../src/data/permutation.js";
import { imageViews, type ImageViews } from "../../../src/data/run-samples.js";
import { MemorySource, memoryDataset } from "./memory-source.js";

const SIDE = 2;
const WORLD_SIZE = 3;
const BATCH_SIZE = 4;
/** Two steps an epoch, one sample left over. */
const LENGTH = 2 * WORLD_SIZE * BATCH_SIZE + 1;

const config: RunConfig = {
  ...PRESETS.quickstart,
  seed: 11,
  data: { ...PRESETS.quickstart.data, imageSize: 2, decodeSize: SIDE, cacheMiB: 0 },
  parallel: { ...PRESETS.quickstart.parallel, worldSize: WORLD_SIZE, batchSize: BATCH_SIZE },
};

function loaderOf(
  source: MemorySource,
  onCorrupt: (name: string) => void = unexpected,
  mostPrepared?: number,
): Loader<ImageViews> {
  return new Loader(imageViews(memoryDataset(source, SIDE), config, onCorrupt), config, mostPrepared);
}

function unexpected(name: string): never {
  throw new Error(`${name} is not corrupt`);
}

/** Resolves when nothing is being read any more. */
async function idle(source: MemorySource): Promise<void> {
  for (let before = -1; before !== source.reads.length;) {
    before = source.reads.length;
    for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

describe("the loader", () => {
  it("gives each rank its stretch of the epoch's permutation, with images, labels and both views' draws", async () => {
    const loader = loaderOf(new MemorySource(LENGTH, SIDE));
    for (const [step, epoch, stepInEpoch] of [
      [0, 0, 0],
      [1, 0, 1],
      [2, 1, 0],
      [7, 3, 1],
    ]) {
      const permutation = epochPermutation(config.seed, epoch, LENGTH);
      for (let rank = 0; rank < WORLD_SIZE; rank++) {
        const batch = await loader.take(step, rank);
        const start = (stepInEpoch * WORLD_SIZE + rank) * BATCH_SIZE;
        const samples = permutation.subarray(start, start + BATCH_SIZE);
        expect([batch.step, batch.rank]).toEqual([step, rank]);
        expect(batch.samples).toEqual(samples);
        expect(batch.labels).toEqual(samples.map((index) => 10 * index));
        expect([...batch.images]).toEqual([...samples].flatMap((index) => new Array(12).fill(index)));
        for (const [draws, view] of [
          [batch.drawsQuery, 0],
          [batch.drawsKey, 1],
        ] as const) {
          expect(draws).toEqual(drawViews(config.augmentation, config.seed, epoch, samples, view, 2, SIDE));
        }
      }
    }
  });

  it("visits every sample of the whole global batches once in an epoch", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source);
    const { stepsPerEpoch } = runLength(config, LENGTH);
    for (let step = 0; step < stepsPerEpoch; step++) {
      loader.prefetch(step, [0, 1, 2]);
      for (const rank of [2, 0, 1]) await loader.take(step, rank);
    }
    expect(source.reads.length).toBe(LENGTH - 1);
    expect(new Set(source.reads).size).toBe(LENGTH - 1);
  });

  it("reads the samples of a rank's embeddings once for its gradients too", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source);
    const shown = await loader.take(0, 1, "embeddings");
    expect(await loader.take(0, 1, "gradients")).toBe(shown);
    expect(source.reads.length).toBe(BATCH_SIZE);
    expect(loader.size).toBe(0);
  });

  it("deals a step's samples anew over the ranks for keys that are shuffled across them", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const shuffling: RunConfig = { ...config, moco: { ...config.moco, shuffle: "across-ranks" } };
    const loader = new Loader(imageViews(memoryDataset(source, SIDE), shuffling, unexpected), shuffling);
    const stepsOf = async (use: "embeddings" | "gradients", step: number) =>
      Promise.all([0, 1, 2].map(async (rank) => [...(await loader.take(step, rank, use)).samples]));
    for (const step of [0, 1]) {
      const [own, dealt] = [await stepsOf("gradients", step), await stepsOf("embeddings", step)];
      expect(dealt).not.toEqual(own);
      expect(dealt.flat()).toEqual(
        [...keyOrder(config.seed, step, WORLD_SIZE, BATCH_SIZE)].map((at) => own.flat()[at]),
      );
      expect(dealt.flat().sort()).toEqual(own.flat().sort());
    }
    // A sample's key view is the same wherever it is computed.
    const [query, key] = [await loader.take(0, 0, "gradients"), await loader.take(0, 0, "embeddings")];
    const again = drawViews(config.augmentation, config.seed, 0, key.samples, 1, 2, SIDE);
    expect(key.drawsKey).toEqual(again);
    expect(query.samples).not.toEqual(key.samples);
  });

  it("puts every array in shared memory of its own", async () => {
    const batch = await loaderOf(new MemorySource(LENGTH, SIDE)).take(0, 0);
    const arrays = [batch.samples, batch.labels, batch.images, batch.drawsQuery, batch.drawsKey];
    for (const { buffer, byteLength } of arrays) {
      expect(buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(buffer.byteLength).toBe(byteLength);
    }
    expect(new Set(arrays.map(({ buffer }) => buffer)).size).toBe(5);
  });

  it("gives the same batch prefetched, taken straight, or taken again", async () => {
    const loader = loaderOf(new MemorySource(LENGTH, SIDE));
    const straight = await loader.take(1, 2);
    loader.prefetch(1, [2]);
    expect(await loader.take(1, 2)).toEqual(straight);
    expect(await loader.take(1, 2)).toEqual(straight);
  });

  it("reads what is prefetched once, ahead of its use", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source);
    loader.prefetch(0, [1, 0]);
    loader.prefetch(0, [0]);
    await idle(source);
    expect(source.reads.length).toBe(2 * BATCH_SIZE);
    const [first, second] = [await loader.take(0, 1), await loader.take(0, 0)];
    expect(source.reads).toEqual([...first.samples, ...second.samples]);
    expect(loader.size).toBe(0);
  });

  it("does not make a taken batch wait for prefetched ones", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source);
    loader.prefetch(0, [0, 1, 2]);
    const { samples } = await loader.take(1, 0);
    // Two are being read by then.
    expect(source.reads.slice(0, 3 * BATCH_SIZE)).toEqual(expect.arrayContaining([...samples]));
  });

  it("drops batches of other steps, oldest first, past its bound", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source, unexpected, 3);
    loader.prefetch(0, [0, 1, 2]);
    await idle(source);
    loader.prefetch(1, [0, 1]);
    await idle(source);
    expect(loader.size).toBe(3);
    const readSoFar = source.reads.length;
    for (const [step, rank] of [
      [0, 2],
      [1, 0],
      [1, 1],
    ]) {
      await loader.take(step, rank);
    }
    expect(source.reads.length).toBe(readSoFar);
    await loader.take(0, 0);
    expect(source.reads.length).toBe(readSoFar + BATCH_SIZE);
  });

  it("leaves ranks of one step past its bound to be read when they are taken", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const loader = loaderOf(source, unexpected, 2);
    loader.prefetch(0, [0, 1, 2]);
    await idle(source);
    expect(loader.size).toBe(2);
    expect((await loader.take(0, 2)).rank).toBe(2);
  });

  it("holds two global batches by default", () => {
    const loader = loaderOf(new MemorySource(10 * LENGTH, SIDE));
    for (let step = 0; step < 10; step++) loader.prefetch(step, [0, 1, 2]);
    expect(loader.size).toBe(2 * WORLD_SIZE);
  });

  it("replaces a corrupt sample with its label, keeps the draws' sample, and reports it each time", async () => {
    const corrupt = epochPermutation(config.seed, 0, LENGTH)[1];
    const reported: string[] = [];
    const loader = loaderOf(new MemorySource(LENGTH, SIDE, new Set([corrupt])), (name) => reported.push(name));
    for (let round = 0; round < 2; round++) {
      const batch = await loader.take(0, 0);
      expect(batch.samples[1]).toBe(corrupt);
      expect(batch.labels[1]).toBe(10 * ((corrupt + 1) % LENGTH));
      expect(batch.images[12]).toBe((corrupt + 1) % LENGTH);
    }
    expect(reported).toEqual([`memory ${corrupt}`, `memory ${corrupt}`]);
  });

  it("rejects a take whose prefetch failed, and then reads again", async () => {
    const corrupt = epochPermutation(config.seed, 0, LENGTH)[0];
    const source = new MemorySource(LENGTH, SIDE, new Set([corrupt]));
    let refuse = true;
    const loader = loaderOf(source, () => {
      if (refuse) throw new Error("too many");
    });
    loader.prefetch(0, [0, 1]);
    await idle(source);
    refuse = false;
    await expect(loader.take(0, 0)).rejects.toThrow("too many");
    expect((await loader.take(0, 0)).samples[0]).toBe(corrupt);
    expect((await loader.take(0, 1)).rank).toBe(1);
  });

  it("caches decoded images within data.cacheMiB", async () => {
    const source = new MemorySource(LENGTH, SIDE);
    const cached = { ...config, data: { ...config.data, cacheMiB: 1 } };
    const loader = new Loader(imageViews(memoryDataset(source, SIDE), cached, unexpected), cached);
    await loader.take(0, 0);
    await loader.take(0, 0);
    expect(source.reads.length).toBe(BATCH_SIZE);
  });

  it("refuses a data set smaller than a global batch", () => {
    expect(() => loaderOf(new MemorySource(WORLD_SIZE * BATCH_SIZE - 1, SIDE))).toThrow(
      "the data set has 11 training samples, fewer than a global batch of 12",
    );
  });
});
