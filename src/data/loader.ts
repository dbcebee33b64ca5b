/** From (step, rank) to its batch: decoded samples and the draws of both views, prepared ahead of their use. */
import { runLength } from "../config/derived.js";
import type { RunConfig } from "../config/schema.js";
import { UserError } from "../protocol/errors.js";
import { type OnCorrupt, readBatch } from "./batch.js";
import { cacheDecoded } from "./cache.js";
import type { Dataset, SampleSource } from "./dataset.js";
import { DRAW, drawViews } from "./draws.js";
import { epochPermutation, positionOf, samplesOf } from "./permutation.js";

/** What a rank computes on in a step. Every array lies in shared memory of its own, so that another thread gets it without a copy. */
export interface Batch {
  readonly step: number;
  readonly rank: number;
  /** int32 `[B]`: the samples that the step calls for, and that the draws belong to */
  readonly samples: Int32Array;
  /** int32 `[B]`: classes of the images really there (another's, where a sample is corrupt); −1 without labels */
  readonly labels: Int32Array;
  /** uint8 `[B, S', S', 3]` RGB, S' the decode size */
  readonly images: Uint8Array;
  /** float32 `[B, DRAW.floats]` */
  readonly drawsQuery: Float32Array;
  /** float32 `[B, DRAW.floats]` */
  readonly drawsKey: Float32Array;
}

/** A batch that is asked for: waiting its turn, being read, or there. */
interface Prepared {
  readonly step: number;
  readonly rank: number;
  batch: Promise<Batch> | null;
}

const MIB = 2 ** 20;

/** Permutations kept: the epoch that ends and the one that begins. */
const PERMUTATIONS_KEPT = 2;

/** Batches of earlier prefetches that are kept, in global batches. */
const STEPS_PREPARED = 2;

/**
 * One batch is read at a time, its samples side by side; prefetched ones follow in the order in which they were asked for. A batch is
 * a pure function of (data set, config, step, rank): dropping or repeating one changes nothing.
 */
export class Loader {
  private readonly source: SampleSource;
  private readonly stepsPerEpoch: number;
  private readonly mostPrepared: number;
  private readonly permutations = new Map<number, Int32Array>();
  /** oldest first */
  private readonly prepared = new Map<string, Prepared>();
  private reading = false;

  /**
   * @param onCorrupt told of each corrupt sample whenever it is met; may throw, and then the batch's `take` rejects
   * @param mostPrepared bound of the batches held; two global batches by default
   * @throws UserError `DATA_TOO_FEW_SAMPLES` where the training split is smaller than a global batch
   */
  constructor(
    dataset: Dataset,
    private readonly config: RunConfig,
    private readonly onCorrupt: OnCorrupt,
    mostPrepared = STEPS_PREPARED * config.parallel.worldSize,
  ) {
    const { train } = dataset.splits;
    const { globalBatch, stepsPerEpoch } = runLength(config, train.length);
    if (stepsPerEpoch === 0) {
      throw new UserError(
        "DATA_TOO_FEW_SAMPLES",
        `the data set has ${train.length} training samples, fewer than a global batch of ${globalBatch}: ` +
          "lower parallel.batchSize or parallel.worldSize",
      );
    }
    this.source = cacheDecoded(train, config.data.decodeSize, config.data.cacheMiB * MIB);
    this.stepsPerEpoch = stepsPerEpoch;
    this.mostPrepared = mostPrepared;
  }

  /** Batches held or on their way. */
  get size(): number {
    return this.prepared.size;
  }

  /**
   * Begins to prepare batches, in this order. Where that makes too many, those of other steps are dropped, oldest first, and past that
   * the last ones of `ranks` are left to `take`.
   */
  prefetch(step: number, ranks: readonly number[]): void {
    for (const rank of ranks) {
      if (this.prepared.has(keyOf(step, rank))) continue;
      if (this.prepared.size >= this.mostPrepared && !this.dropOldest(step)) break;
      this.prepared.set(keyOf(step, rank), { step, rank, batch: null });
    }
    void this.readWaiting();
  }

  /**
   * Hands out a batch, prefetched or not; it is not kept.
   * @throws whatever reading the samples throws; asking again reads them again
   */
  async take(step: number, rank: number): Promise<Batch> {
    const key = keyOf(step, rank);
    const prepared = this.prepared.get(key);
    this.prepared.delete(key);
    return prepared?.batch ?? this.load(step, rank);
  }

  private dropOldest(exceptStep: number): boolean {
    for (const [key, { step }] of this.prepared) {
      if (step !== exceptStep) return this.prepared.delete(key);
    }
    return false;
  }

  private async readWaiting(): Promise<void> {
    if (this.reading) return;
    this.reading = true;
    for (;;) {
      const next = [...this.prepared.values()].find(({ batch }) => batch === null);
      if (next === undefined) break;
      next.batch = this.load(next.step, next.rank);
      // Whoever takes the batch sees its error; one that is dropped, nobody misses.
      await next.batch.catch(() => undefined);
    }
    this.reading = false;
  }

  private async load(step: number, rank: number): Promise<Batch> {
    const { seed, data, parallel, augmentation } = this.config;
    const { epoch, stepInEpoch } = positionOf(step, this.stepsPerEpoch);
    const { worldSize, batchSize } = parallel;
    const samples = new Int32Array(new SharedArrayBuffer(4 * batchSize));
    samples.set(samplesOf(this.permutation(epoch), stepInEpoch, rank, worldSize, batchSize));
    const images = new Uint8Array(new SharedArrayBuffer(batchSize * data.decodeSize ** 2 * 3));
    const read = await readBatch(this.source, samples, images, this.onCorrupt);
    const labels = new Int32Array(new SharedArrayBuffer(4 * batchSize));
    labels.set(read.map((index) => this.source.labels[index]));
    const draws = (view: 0 | 1) => {
      const target = new Float32Array(new SharedArrayBuffer(4 * batchSize * DRAW.floats));
      return drawViews(augmentation, seed, epoch, samples, view, data.imageSize, data.decodeSize, target);
    };
    return { step, rank, samples, labels, images, drawsQuery: draws(0), drawsKey: draws(1) };
  }

  private permutation(epoch: number): Int32Array {
    const known = this.permutations.get(epoch);
    if (known !== undefined) return known;
    const permutation = epochPermutation(this.config.seed, epoch, this.source.length);
    this.permutations.set(epoch, permutation);
    for (const oldest of this.permutations.keys()) {
      if (this.permutations.size <= PERMUTATIONS_KEPT) break;
      this.permutations.delete(oldest);
    }
    return permutation;
  }
}

function keyOf(step: number, rank: number): string {
  return `${step}/${rank}`;
}
