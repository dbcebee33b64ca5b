/** kNN accuracy of a checkpoint. Loads the engine. */
import type { CheckpointState } from "../checkpoint/index.js";
import { labelledLength, openImages, openRunDataset } from "../data/index.js";
import { encoderExtractor, extractFeatures, type Extractor } from "../evaluation/extract.js";
import { frozenEncoder } from "../evaluation/features.js";
import { knnAccuracy } from "../evaluation/knn.js";
import { encoderOf } from "../models/index.js";
import { classified } from "./classified-data.js";
import { encoderStateOf } from "./checkpoint-encoder.js";
import { warn } from "./run-display.js";

export interface KnnRequest {
  readonly spec: string;
  readonly neighbours: number;
  readonly temperature: number;
  readonly maxTrain: number;
  readonly maxTest: number;
}

export interface KnnResult {
  /** in [0, 1] */
  readonly accuracy: number;
  /** neighbours that voted: fewer than asked for where the bank is smaller */
  readonly k: number;
  readonly train: number;
  readonly test: number;
}

/** Side of the pictures whose raw pixels are compared. */
const PIXELS_SIDE = 32;
const PIXELS_MOST_CORRUPT = 0;

/**
 * @param opened null: raw pixels serve as features
 * @throws UserError where the data have no labels or no test split
 */
export async function evaluateKnn(
  opened: { readonly path: string; readonly checkpoint: CheckpointState } | null,
  request: KnnRequest,
): Promise<KnnResult> {
  const extractor = opened === null ? rawPixels() : await queryBackbone(opened.checkpoint, opened.path);
  const dataset = classified(
    opened === null
      ? await openImages(request.spec, { decodeSize: PIXELS_SIDE })
      : await openRunDataset(request.spec, opened.checkpoint.meta.config),
    request.spec,
  );
  const most = Math.min(request.maxTrain, labelledLength(dataset.splits.train));
  const bank = await extractFeatures(extractor, dataset, "train", most, warn);
  const test = await extractFeatures(extractor, dataset, "test", request.maxTest, warn);
  const k = Math.min(request.neighbours, bank.labels.length);
  const accuracy = knnAccuracy(bank, test, {
    neighbours: k,
    temperature: request.temperature,
    classes: dataset.classes.length,
  });
  return { accuracy, k, train: bank.labels.length, test: test.labels.length };
}

function rawPixels(): Extractor {
  return {
    dimension: PIXELS_SIDE ** 2 * 3,
    maxCorrupt: PIXELS_MOST_CORRUPT,
    // About mid-gray, so that their cosine tells pictures apart.
    extract: (samples) => {
      if (samples.modality !== "image") throw new Error("raw pixels were asked of texts");
      return Float32Array.from(samples.pixels, (value) => value - 127.5);
    },
  };
}

async function queryBackbone(checkpoint: CheckpointState, path: string): Promise<Extractor> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  return encoderExtractor(frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, "query", path)), config);
}
