/** The thread that owns the data set: it decodes and draws ahead while the previous rank computes. */
import type { RunConfig } from "../src/config/schema.js";
import {
  Loader,
  openRunDataset,
  readSamples,
  viewReader,
  type Batch,
  type BatchUse,
  type RunDataset,
  type SampleValues,
  type Split,
} from "../src/data/index.js";
import type { ClientKeys } from "../src/transport/index.js";
import { SampleClient } from "./sample-client.js";
import { streamedDataset } from "./streamed-data.js";
import { serveCalls } from "./thread-call.js";

export type LoaderCalls = {
  open: [
    { config: RunConfig; spec: string; stream: SampleStream | null },
    { manifestHash: string; splitLengths: Readonly<Record<Split, number>> },
  ];
  /** samples come from elsewhere from now on */
  move: [SampleStream, null];
  /** decode these ranks' batches ahead, in this order */
  prefetch: [{ step: number; ranks: readonly number[]; use: BatchUse }, null];
  take: [{ step: number; rank: number; use: BatchUse }, Batch];
  /** a stretch of a split at rest */
  read: [{ split: Split; start: number; count: number }, SampleValues];
};

/** Where samples come from that are not on this machine. */
export interface SampleStream {
  /** of the samples plane */
  readonly endpoint: string;
  readonly keys: ClientKeys | null;
  readonly runId: string;
}

/** An image that could not be decoded. */
export interface LoaderNotice {
  readonly corrupt: string;
}

let dataset: RunDataset | null = null;
let loader: Loader | null = null;
let client: SampleClient | null = null;

const onCorrupt = (corrupt: string) => {
  notify({ corrupt });
};

const notify = serveCalls<LoaderCalls, LoaderNotice>(
  {
    open: async ({ config, spec, stream }) => {
      client = stream === null ? null : new SampleClient(stream.endpoint, stream.keys, stream.runId);
      dataset = await (client === null ? openRunDataset(spec, config) : streamedDataset(client, config));
      loader = new Loader(viewReader(dataset, config, onCorrupt), config);
      const { train, test } = dataset.splits;
      return { manifestHash: dataset.manifestHash, splitLengths: { train: train.length, test: test.length } };
    },
    move: ({ endpoint }) => {
      client?.move(endpoint);
      return null;
    },
    prefetch: ({ step, ranks, use }) => {
      loader?.prefetch(step, ranks, use);
      return null;
    },
    take: ({ step, rank, use }) => {
      if (loader === null) throw new Error("the data set was used before it was opened");
      return loader.take(step, rank, use);
    },
    read: async ({ split, start, count }) => {
      if (dataset === null) throw new Error("the data set was used before it was opened");
      const indices = Array.from({ length: count }, (_, i) => start + i);
      return (await readSamples(dataset, split, indices, onCorrupt)).values;
    },
  },
  async () => client?.close(),
);
