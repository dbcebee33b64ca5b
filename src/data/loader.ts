/** From (step, rank) to its batch: samples with both views, prepared ahead of their use. */
import { runLength } from "../config/derived.js";
import type { RunConfig } from "../config/schema.js";
import { UserError } from "../protocol/errors.js";
import { epochPermutation, keyOrder, positionOf, samplesOf } from "./permutation.js";
import type { BatchViews, ViewReader } from "./run-samples.js";

/**
 * What a batch is for: the gradients of a rank, or the embeddings that it shows before. With shuffling BN across ranks the
 * latter are of other samples; otherwise of the same, so their batch is kept for the gradients.
 */
export type BatchUse = "embeddings" | "gradients";

/** Whose batch it is. Its arrays lie in shared memory of their own, as those of its views. */
interface BatchPlace {
  readonly step: number;
  readonly rank: number;
  /** int32 `[B]`: the samples that the step calls for, and that the draws belong to */
  readonly samples: Int32Array;
  /** int32 `[B]`: classes of the samples really there (another's, where one is corrupt); −1 without labels */
  readonly labels: Int32Array;
}

/** What a rank computes on in a step. */
export type Batch<Views extends BatchViews = BatchViews> = BatchPlace & Views;

/** A batch that is asked for: waiting its turn, being read, or there. */
interface Prepared<Views extends BatchViews> {
  readonly step: number;
  readonly rank: number;
  readonly use: BatchUse;
  batch: Promise<Batch<Views>> | null;
}

/** Permutations kept: the epoch that ends and the one that begins. */
const PERMUTATIONS_KEPT = 2;

/** Batches read at once: the next one keeps the decoding threads busy while the last samples of one are under way. */
const READ_AT_ONCE = 2;

/** Batches of earlier prefetches that are kept, in global batches. */
const STEPS_PREPARED = 2;

/**
 * A batch's samples are read side by side; prefetched batches follow in the order in which they were asked for. A batch is
 * a pure function of (data set, config, step, rank): dropping or repeating one changes nothing.
 */
export class Loader<Views extends BatchViews = BatchViews> {
  private readonly stepsPerEpoch: number;
  private readonly mostPrepared: number;
  private readonly permutations = new Map<number, Int32Array>();
  /** oldest first */
  private readonly prepared = new Map<string, Prepared<Views>>();
  private reading = 0;

  /**
   * @param reader what it throws, the batch's `take` rejects with
   * @param mostPrepared bound of the batches held; two global batches by default
   * @throws UserError `DATA_TOO_FEW_SAMPLES` where the training split is smaller than a global batch
   */
  constructor(
    private readonly reader: ViewReader<Views>,
    private readonly config: RunConfig,
    mostPrepared = STEPS_PREPARED * config.parallel.worldSize,
  ) {
    const { globalBatch, stepsPerEpoch } = runLength(config, reader.length);
    if (stepsPerEpoch === 0) {
      throw new UserError(
        "DATA_TOO_FEW_SAMPLES",
        `the data set has ${reader.length} training samples, fewer than a global batch of ${globalBatch}: ` +
          "lower parallel.batchSize or parallel.worldSize",
      );
    }
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
  prefetch(step: number, ranks: readonly number[], use: BatchUse = "gradients"): void {
    for (const rank of ranks) {
      const key = this.keyOf(step, rank, use);
      if (this.prepared.has(key)) continue;
      if (this.prepared.size >= this.mostPrepared && !this.dropOldest(step)) break;
      this.prepared.set(key, { step, rank, use, batch: null });
    }
    while (this.reading < READ_AT_ONCE && this.nextWaiting() !== undefined) void this.readWaiting();
  }

  /**
   * Hands out a batch, prefetched or not. It is not kept, unless it is needed again for the rank's gradients.
   * @throws whatever reading the samples throws; asking again reads them again
   */
  async take(step: number, rank: number, use: BatchUse = "gradients"): Promise<Batch<Views>> {
    const key = this.keyOf(step, rank, use);
    const prepared = this.prepared.get(key);
    this.prepared.delete(key);
    const batch = prepared?.batch ?? this.load(step, rank, use);
    const isNeededAgain = use === "embeddings" && !this.shuffles;
    if (isNeededAgain && (this.prepared.size < this.mostPrepared || this.dropOldest(step)))
      this.prepared.set(key, { step, rank, use, batch });
    return batch;
  }

  /** Whether the samples of a rank's embeddings are others than those of its gradients. */
  private get shuffles(): boolean {
    return this.config.moco.shuffle === "across-ranks";
  }

  private keyOf(step: number, rank: number, use: BatchUse): string {
    return `${step}/${rank}${use === "embeddings" && this.shuffles ? "/shuffled" : ""}`;
  }

  private dropOldest(exceptStep: number): boolean {
    for (const [key, { step }] of this.prepared) {
      if (step !== exceptStep) return this.prepared.delete(key);
    }
    return false;
  }

  private nextWaiting(): Prepared<Views> | undefined {
    for (const prepared of this.prepared.values()) if (prepared.batch === null) return prepared;
    return undefined;
  }

  /** One after another, until none waits. */
  private async readWaiting(): Promise<void> {
    this.reading++;
    for (let next = this.nextWaiting(); next !== undefined; next = this.nextWaiting()) {
      next.batch = this.load(next.step, next.rank, next.use);
      // Whoever takes the batch sees its error; one that is dropped, nobody misses.
      await next.batch.catch(() => undefined);
    }
    this.reading--;
  }

  private async load(step: number, rank: number, use: BatchUse): Promise<Batch<Views>> {
    const { seed, parallel } = this.config;
    const { epoch, stepInEpoch } = positionOf(step, this.stepsPerEpoch);
    const { worldSize, batchSize } = parallel;
    const samples = new Int32Array(new SharedArrayBuffer(4 * batchSize));
    const samplesOfRank = (of: number) => samplesOf(this.permutation(epoch), stepInEpoch, of, worldSize, batchSize);
    if (use === "embeddings" && this.shuffles) {
      const places = keyOrder(seed, step, worldSize, batchSize).subarray(rank * batchSize, (rank + 1) * batchSize);
      samples.set(places.map((place) => samplesOfRank(Math.floor(place / batchSize))[place % batchSize]));
    } else samples.set(samplesOfRank(rank));
    const { views, held } = await this.reader.read(epoch, samples);
    const labels = new Int32Array(new SharedArrayBuffer(4 * batchSize));
    labels.set(held.map((index) => this.reader.labels[index]));
    return { step, rank, samples, labels, ...views };
  }

  private permutation(epoch: number): Int32Array {
    const known = this.permutations.get(epoch);
    if (known !== undefined) return known;
    const permutation = epochPermutation(this.config.seed, epoch, this.reader.length);
    this.permutations.set(epoch, permutation);
    for (const oldest of this.permutations.keys()) {
      if (this.permutations.size <= PERMUTATIONS_KEPT) break;
      this.permutations.delete(oldest);
    }
    return permutation;
  }
}
