/** The process of one of a worker's devices: TensorFlow computes on the first device that a process sees. */
import type { RunConfig } from "../src/config/schema.js";
import type { BatchUse } from "../src/data/loader.js";
import type { DeviceChoice } from "../src/engine/environment.js";
import { gradientLength, slotLength, slotVectors } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/index.js";
import { parameterShards } from "../src/models/shards.js";
import { VectorArena } from "../src/optim/index.js";
import { pagedBytes, SharedSegment, type SegmentAddress } from "../src/transport/index.js";
import type { Place, RunRequest } from "./compute-thread.js";
import { startExecutor, type Executor, type ExecutorOptions } from "./executor.js";
import type { Occasion } from "./partial-sums.js";
import { serveProcessCalls } from "./process-call.js";
import type { FeatureSlice, HandedOut, Prepared, RankReport, SampleOrigin } from "./session-ports.js";
import type { SharedPlace } from "./weight-slots.js";

export type DeviceCalls = {
  start: [DeviceStart, Prepared & { layout: ParameterLayout }];
  /** memory for gradients, the worker's */
  memory: [SegmentAddress, null];
  /** where each shard of a version lies; false: the memory is gone, and the weights before are still here */
  weights: [{ version: number; places: readonly SharedPlace[] }, boolean];
  queue: [{ position: number; frames: readonly Uint8Array[] }, null];
  keys: [{ frames: readonly Uint8Array[] }, null];
  queueDigest: [null, string];
  embed: [Place, Float32Array | null];
  embeddings: [{ step: number; round: number; frames: readonly Uint8Array[] }, null];
  run: [Omit<RunRequest, "batch" | "memories" | "run"> & ToMemory, RankReport | null];
  flush: [Occasion & ToMemory, readonly HandedOut[]];
  prefetch: [{ step: number; ranks: readonly number[]; use: BatchUse }, null];
  features: [{ slice: FeatureSlice }, Float32Array];
  move: [SampleOrigin, null];
};

export interface DeviceStart {
  readonly config: RunConfig;
  readonly origin: SampleOrigin;
  readonly options: Omit<ExecutorOptions, "warn" | "log" | "signal"> & { readonly device: DeviceChoice };
}

export interface ToMemory {
  /** whether what is handed out goes to the memory for gradients; otherwise it travels */
  readonly toMemory: boolean;
}

export type DeviceNotice = { readonly warning: string } | { readonly news: string } | { readonly corrupt: string };

const ended = new AbortController();
const threads: { close(): Promise<void> }[] = [];
const arena = new VectorArena();
let executor: Executor | null = null;
let gradients: Float32Array | null = null;
/** the shards of the weights that the engine has */
let loaded: readonly Float32Array[] = [];
let moved: (origin: SampleOrigin) => void = () => undefined;

function started(): Executor {
  if (executor === null) throw new Error("a device was used before it was started");
  return executor;
}

/** The descriptor may be closed once the memory is mapped. @returns null where it is gone */
function mapped({ segment: address, at }: SharedPlace, length: number): Float32Array | null {
  const segment = SharedSegment.open(address, at + pagedBytes(length));
  if (segment === null) return null;
  const values = arena.map(length, segment.file, segment.position(at));
  segment.close();
  return values;
}

const memoriesFor = (toMemory: boolean) => [toMemory ? gradients : null];
/** It is copied on its way out, so nothing of it is looked at here any more. */
const copies = (nodes: readonly HandedOut[]): readonly HandedOut[] =>
  nodes.map(({ node, slices }) => ({
    node,
    slices: slices.map((parts) => parts?.map((part) => part.slice()) ?? null),
  }));

const notify = serveProcessCalls<DeviceCalls, DeviceNotice>(
  {
    start: async ({ config, origin, options }) => {
      const { executor: own, ...found } = await startExecutor(
        config,
        {
          first: origin,
          onMove: (heard) => {
            moved = heard;
          },
        },
        {
          ...options,
          warn: (warning) => {
            notify({ warning });
          },
          log: (news) => {
            notify({ news });
          },
          signal: ended.signal,
        },
        (corrupt) => {
          notify({ corrupt });
        },
        threads,
      );
      executor = own;
      return { ...found, layout: own.layout };
    },
    memory: (address) => {
      gradients = mapped({ segment: address, at: 0 }, gradientLength(started().layout));
      if (gradients === null) throw new Error("the worker's memory is out of reach of its device's process");
      return null;
    },
    weights: async ({ version, places }) => {
      const layouts = parameterShards(started().layout, places.length).map(({ layout }) => layout);
      const found = places.map((place, index) => mapped(place, slotLength(layouts[index])));
      const slots = found.filter((slot) => slot !== null);
      const isWhole = slots.length === found.length;
      if (isWhole) {
        const shards = slots.map((slot, index) => ({ ...slotVectors(layouts[index], slot), place: null }));
        await started().setWeights({ version, shards });
      }
      for (const slot of isWhole ? loaded : slots) arena.unmap(slot);
      if (isWhole) loaded = slots;
      return isWhole;
    },
    queue: async ({ position, frames }) => {
      await started().setQueue(position, frames);
      return null;
    },
    keys: async ({ frames }) => {
      await started().appendKeys(frames);
      return null;
    },
    queueDigest: () => started().queueDigest(),
    embed: ({ step, rank, round }) => started().embed(0, step, rank, round),
    embeddings: async ({ step, round, frames }) => {
      await started().setEmbeddings(step, round, frames);
      return null;
    },
    run: async ({ toMemory, ...request }) => {
      const report = await started().run(0, { ...request, memories: memoriesFor(toMemory), onShard: null });
      return report === null ? null : { ...report, nodes: copies(report.nodes) };
    },
    flush: async ({ toMemory, ...occasion }) =>
      copies(await started().flush({ ...occasion, memories: memoriesFor(toMemory) })),
    prefetch: ({ step, ranks, use }) => {
      started().prefetch(0, step, ranks, use);
      return null;
    },
    features: ({ slice }) => started().features(0, slice),
    move: (origin) => {
      moved(origin);
      return null;
    },
  },
  async () => {
    ended.abort();
    await Promise.all(threads.map((thread) => thread.close()));
  },
);
