/** One evaluation: collects the workers' features and classifies the test set in a thread. */
import { Worker } from "node:worker_threads";
import type { RunConfig } from "../src/config/schema.js";
import { labelledLength, type Split } from "../src/data/dataset.js";
import type { RunDataset } from "../src/data/run-samples.js";
import { configureEngine } from "../src/engine/environment.js";
import { fromFrames, sharedFloats } from "../src/protocol/frames.js";
import { CHUNK_SAMPLES } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { featureChunks, type FeatureChunk } from "./planning.js";
import type { EvaluationThreadData, Scores } from "./evaluation-thread.js";

/** How many samples of a split take part, all of them with a label. */
export function evaluatedCount(config: RunConfig, dataset: RunDataset, split: Split): number {
  const limit = split === "train" ? config.evaluation.maxTrain : config.evaluation.maxTest;
  return Math.min(limit, labelledLength(dataset.splits[split]));
}

/** Chunks of an evaluation; none where the data has no labels or no test split, so that nothing can be classified. */
export function evaluationChunks(config: RunConfig, dataset: RunDataset): FeatureChunk[] {
  const train = evaluatedCount(config, dataset, "train");
  const test = evaluatedCount(config, dataset, "test");
  if (dataset.classes.length === 0 || test === 0) return [];
  return featureChunks(train, test, CHUNK_SAMPLES);
}

/** What the server needs of an evaluation. */
export interface OpenEvaluation {
  readonly step: number;
  readonly chunks: readonly FeatureChunk[];
  accept(chunk: number, frames: readonly Uint8Array[]): void;
  classify(): Promise<Scores>;
}

export class Evaluation implements OpenEvaluation {
  readonly chunks: readonly FeatureChunk[];
  private readonly features: Record<Split, Float32Array>;

  constructor(
    readonly step: number,
    private readonly config: RunConfig,
    private readonly dataset: RunDataset,
    private readonly featureDim: number,
    /** whether the run ends with it */
    private readonly isLast: boolean,
  ) {
    this.chunks = evaluationChunks(config, dataset);
    this.features = {
      train: sharedFloats(evaluatedCount(config, dataset, "train") * featureDim),
      test: sharedFloats(evaluatedCount(config, dataset, "test") * featureDim),
    };
  }

  /**
   * @param frames float32 `[count, featureDim]`
   * @throws WireError where the chunk does not exist or has another size
   */
  accept(chunk: number, frames: readonly Uint8Array[]): void {
    const place = this.chunks[chunk];
    if (place === undefined) throw new WireError(`features of chunk ${String(chunk)}, which does not exist`);
    const start = place.start * this.featureDim;
    fromFrames(frames, this.features[place.split].subarray(start, start + place.count * this.featureDim));
  }

  async classify(): Promise<Scores> {
    const part = (split: Split) => ({
      features: this.features[split],
      labels: this.dataset.splits[split].labels.slice(0, evaluatedCount(this.config, this.dataset, split)),
      dimension: this.featureDim,
    });
    const { neighbours, temperature, linear } = this.config.evaluation;
    const probes = linear && this.isLast;
    if (probes) configureEngine({ threads: this.config.parallel.threads, device: "cpu" });
    const workerData: EvaluationThreadData = {
      bank: part("train"),
      test: part("test"),
      options: { neighbours, temperature, classes: this.dataset.classes.length },
      probeSeed: probes ? this.config.seed : null,
    };
    const thread = new Worker(new URL("./evaluation-thread.js", import.meta.url), { workerData });
    try {
      return await new Promise<Scores>((resolve, reject) => {
        thread.once("message", resolve);
        thread.once("error", reject);
      });
    } finally {
      await thread.terminate();
    }
  }
}
