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

/** @throws UserError where the data have no labels or no test split */
export async function evaluateKnn(checkpoint: CheckpointState, path: string, request: KnnRequest): Promise<KnnResult> {
  const { config } = checkpoint.meta;
  const dataset = await openDataset(request.spec, { decodeSize: config.data.decodeSize });
  if (dataset.classes.length === 0 || dataset.splits.test.length === 0) {
    const missing = dataset.classes.length === 0 ? "no labels" : "no test split";
    throw new UserError(
      "DATA_NOT_CLASSIFIABLE",
      `data ${request.spec} has ${missing}: kNN needs class folders under train/ and test/`,
    );
  }
  const encoder = resnet(config.model);
  const { state } = fromGroups(encoder.layout, checkpoint, config, path);
  const frozen: FrozenEncoder = {
    encoder,
    parameters: encoder.layout.parameters.map(({ offset, size, shape }) =>
      tf.tensor(state.query.slice(offset, offset + size), [...shape]),
    ),
    buffers: new Map(
      encoder.layout.buffers.map(({ name, offset, size }) => [
        name,
        tf.tensor1d(state.queryBuffers.slice(offset, offset + size)),
      ]),
    ),
  };
  const features = async (split: Split, most: number): Promise<LabelledFeatures> => {
    const count = Math.min(most, dataset.splits[split].length);
    const all = new Float32Array(count * encoder.featureDim);
    for (let start = 0; start < count; start += BATCH) {
      const images = await decoded(dataset, split, start, Math.min(BATCH, count - start), config.data.maxCorrupt);
      all.set(backboneFeatures(frozen, images, config.data), start * encoder.featureDim);
    }
    return { features: all, labels: dataset.splits[split].labels.slice(0, count), dimension: encoder.featureDim };
  };
  const bank = await features("train", request.maxTrain);
  const test = await features("test", request.maxTest);
  const k = Math.min(request.neighbours, bank.labels.length);
  const accuracy = knnAccuracy(bank, test, {
    neighbours: k,
    temperature: request.temperature,
    classes: dataset.classes.length,
  });
  return { accuracy, k, train: bank.labels.length, test: test.labels.length };
}

async function decoded(dataset: Dataset, split: Split, start: number, count: number, maxCorrupt: number) {
  const limit = new CorruptLimit(maxCorrupt);
  const images = new Uint8Array(count * dataset.decodeSize ** 2 * 3);
  const indices = Array.from({ length: count }, (_, i) => start + i);
  await readBatch(dataset.splits[split], indices, images, (name) => {
    if (limit.count(name)) process.stderr.write(`tandem: image ${name} cannot be decoded; another stands in\n`);
  });
  return images;
}
