/** kNN accuracy of a checkpoint. Loads the engine. */
import type { CheckpointState } from "../checkpoint/index.js";
import { CorruptLimit, openDataset, readBatch, type Dataset, type Split } from "../data/index.js";
import { tf } from "../engine/index.js";
import { backboneFeatures, type FrozenEncoder } from "../evaluation/features.js";
import { knnAccuracy, type LabelledFeatures } from "../evaluation/knn.js";
import { resnet } from "../models/index.js";
import { UserError } from "../protocol/errors.js";
import { fromGroups } from "../../coordinator/stored-state.js";

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

/** Samples that go through the encoder at a time. */
const BATCH = 250;

/** Side of the pictures whose raw pixels are compared. */
const PIXELS_SIDE = 32;
const PIXELS_MOST_CORRUPT = 0;

/** From decoded images, uint8 `[n, S', S', 3]`, to features, float32 `[n, dimension]`. */
interface Extractor {
  readonly dimension: number;
  readonly decodeSize: number;
  readonly maxCorrupt: number;
  readonly extract: (images: Uint8Array) => Float32Array;
}

/**
 * @param opened null: raw pixels serve as features
 * @throws UserError where the data have no labels or no test split
 */
export async function evaluateKnn(
  opened: { readonly path: string; readonly checkpoint: CheckpointState } | null,
  request: KnnRequest,
): Promise<KnnResult> {
  const extractor = opened === null ? rawPixels() : queryBackbone(opened.checkpoint, opened.path);
  const dataset = await openDataset(request.spec, { decodeSize: extractor.decodeSize });
  if (dataset.classes.length === 0 || dataset.splits.test.length === 0) {
    const missing = dataset.classes.length === 0 ? "no labels" : "no test split";
    throw new UserError(
      "DATA_NOT_CLASSIFIABLE",
      `data ${request.spec} has ${missing}: kNN needs class folders under train/ and test/`,
    );
  }
  const bank = await featuresOf(extractor, dataset, "train", request.maxTrain);
  const test = await featuresOf(extractor, dataset, "test", request.maxTest);
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
    decodeSize: PIXELS_SIDE,
    maxCorrupt: PIXELS_MOST_CORRUPT,
    // About mid-gray, so that their cosine tells pictures apart.
    extract: (images) => Float32Array.from(images, (value) => value - 127.5),
  };
}

function queryBackbone(checkpoint: CheckpointState, path: string): Extractor {
  const { config } = checkpoint.meta;
  const encoder = resnet(config.model);
  const { parameters, buffers } = encoder.layout;
  const { state } = fromGroups(encoder.layout, checkpoint, config, path);
  const frozen: FrozenEncoder = {
    encoder,
    parameters: parameters.map(({ offset, size, shape }) =>
      tf.tensor(state.query.slice(offset, offset + size), [...shape]),
    ),
    buffers: new Map(
      buffers.map(({ name, offset, size }) => [name, tf.tensor1d(state.queryBuffers.slice(offset, offset + size))]),
    ),
  };
  return {
    dimension: encoder.featureDim,
    decodeSize: config.data.decodeSize,
    maxCorrupt: config.data.maxCorrupt,
    extract: (images) => backboneFeatures(frozen, images, config.data),
  };
}

async function featuresOf(
  extractor: Extractor,
  dataset: Dataset,
  split: Split,
  most: number,
): Promise<LabelledFeatures> {
  const { dimension, extract } = extractor;
  const count = Math.min(most, dataset.splits[split].length);
  const features = new Float32Array(count * dimension);
  const limit = new CorruptLimit(extractor.maxCorrupt);
  for (let start = 0; start < count; start += BATCH) {
    const images = await decoded(dataset, split, start, Math.min(BATCH, count - start), limit);
    features.set(extract(images), start * dimension);
  }
  return { features, labels: dataset.splits[split].labels.slice(0, count), dimension };
}

async function decoded(dataset: Dataset, split: Split, start: number, count: number, limit: CorruptLimit) {
  const images = new Uint8Array(count * dataset.decodeSize ** 2 * 3);
  const indices = Array.from({ length: count }, (_, i) => start + i);
  await readBatch(dataset.splits[split], indices, images, (name) => {
    if (limit.count(name)) process.stderr.write(`tandem: image ${name} cannot be decoded; another stands in\n`);
  });
  return images;
}
