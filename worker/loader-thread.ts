/** The thread that owns the data set: it decodes and draws ahead while the previous rank computes. */
import type { RunConfig } from "../src/config/schema.js";
import { Loader, openDataset, type Batch, type Dataset, type Split } from "../src/data/index.js";
import { readBatch } from "../src/data/batch.js";
import { serveCalls } from "./thread-call.js";

export type LoaderCalls = {
  open: [{ config: RunConfig; spec: string }, { manifestHash: string }];
  /** decode these ranks' batches ahead, in this order */
  prefetch: [{ step: number; ranks: readonly number[] }, null];
  take: [{ step: number; rank: number }, Batch];
  /** decoded images of a stretch of a split, uint8 `[count, S', S', 3]` */
  read: [{ split: Split; start: number; count: number }, Uint8Array];
};

/** An image that could not be decoded. */
export interface LoaderNotice {
  readonly corrupt: string;
}

let dataset: Dataset | null = null;
let loader: Loader | null = null;

const notify = serveCalls<LoaderCalls, LoaderNotice>({
  open: async ({ config, spec }) => {
    dataset = await openDataset(spec, { decodeSize: config.data.decodeSize });
    loader = new Loader(dataset, config, (corrupt) => {
      notify({ corrupt });
    });
    return { manifestHash: dataset.manifestHash };
  },
  prefetch: ({ step, ranks }) => {
    loader?.prefetch(step, ranks);
    return null;
  },
  take: ({ step, rank }) => {
    if (loader === null) throw new Error("the data set was used before it was opened");
    return loader.take(step, rank);
  },
  read: async ({ split, start, count }) => {
    if (dataset === null) throw new Error("the data set was used before it was opened");
    const { decodeSize, splits } = dataset;
    const images = new Uint8Array(count * decodeSize * decodeSize * 3);
    const indices = Array.from({ length: count }, (_, i) => start + i);
    await readBatch(splits[split], indices, images, (corrupt) => {
      notify({ corrupt });
    });
    return images;
  },
});
