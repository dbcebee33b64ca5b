import { describe, expect, it } from "vitest";
import type { ImageDataset, ImageSource } from "../../../src/data/index.js";
import { tf, type Tensor } from "../../../src/engine/index.js";
import { PRESETS } from "../../../src/config/presets.js";
import { augmentedExtractor, probeAugmentation, samplesOnly } from "../../../src/evaluation/extract.js";
import { frozenEncoder } from "../../../src/evaluation/features.js";
import { nesterov } from "../../../src/evaluation/finetune-step.js";
import { classifierLayout, finetune, type FinetunePlan } from "../../../src/evaluation/finetune.js";
import { softmaxLoss } from "../../../src/evaluation/softmax-regression.js";
import { initialBuffers, initialParameters, resnet } from "../../../src/models/index.js";

const SIDE = 8;
const CLASSES = 2;
const encoder = resnet({ encoder: "resnet-tiny", stem: "3x3", head: "linear", embeddingDim: 4 });
const start = { parameters: initialParameters(encoder.layout, 1), buffers: initialBuffers(encoder.layout) };

/** Dark pictures and bright ones. */
function pictures(length: number): ImageSource {
  return {
    length,
    labels: Int32Array.from({ length }, (_, index) => index % CLASSES),
    nameOf: (index) => `picture ${index}`,
    read: (index, target, offset) => {
      for (let i = 0; i < SIDE * SIDE * 3; i++)
        target[offset + i] = (index % CLASSES) * 150 + ((i * 7 + index * 13) % 100);
      return Promise.resolve();
    },
  };
}

const dataset: ImageDataset = {
  modality: "image",
  classes: ["dark", "bright"],
  decodeSize: SIDE,
  splits: { train: pictures(16), test: pictures(10) },
  manifestHash: "",
};

const plan: FinetunePlan = {
  encoder,
  imageSize: SIDE,
  frozen: false,
  weightDecay: 0,
  classifier: "linear",
  epochs: 6,
  batchSize: 8,
  learningRate: 0.05,
  seed: 3,
  data: { decodeSize: SIDE, imageSize: SIDE, maxLength: 1, maxCorrupt: 0 },
  eager: true,
};

const silent = { epochDone: () => undefined, warn: (message: string) => expect.fail(message) };
const values = (tensors: readonly Tensor[]) => tensors.flatMap((tensor) => [...(tensor.dataSync() as Float32Array)]);

describe("fine-tuning", () => {
  it("steps as PyTorch's SGD with Nesterov momentum", () => {
    // g + λw = 1 + 0.1·2 = 1.2; v = 0.9·0.5 + 1.2 = 1.65; w = 2 − 0.1·(1.2 + 0.9·1.65)
    const step = nesterov(tf.tensor1d([2]), tf.tensor1d([1]), tf.tensor1d([0.5]), tf.scalar(0.1), 0.1);
    expect(step.velocity.dataSync()[0]).toBeCloseTo(1.65, 6);
    expect(step.value.dataSync()[0]).toBeCloseTo(1.7315, 6);
  });

  it("moves a classifier on a frozen backbone by softmax regression's gradient", async () => {
    const one = { ...plan, frozen: true, epochs: 1, batchSize: 16 };
    const { state, loss, layout } = await finetune(start, dataset, one, silent);
    expect(layout).toEqual(classifierLayout("linear", encoder.featureDim, CLASSES));
    const extractor = augmentedExtractor(
      frozenEncoder(encoder, start),
      { data: one.data, model: PRESETS.quickstart.model },
      {
        augmentation: probeAugmentation(PRESETS.quickstart.augmentation),
        ...{ what: "features", seed: one.seed, epoch: 0, view: 0 },
      },
      dataset,
      "train",
    );
    const images = new Uint8Array(16 * SIDE * SIDE * 3);
    for (let index = 0; index < 16; index++) await dataset.splits.train.read(index, images, index * SIDE * SIDE * 3);
    const features = extractor.extract(
      { modality: "image", pixels: images },
      Int32Array.from({ length: 16 }, (_, index) => index),
    );
    const drawn = Float64Array.from(initialParameters(layout, one.seed));
    const data = {
      features: tf.tensor2d(features, [16, encoder.featureDim]),
      labels: tf.tensor1d(dataset.splits.train.labels, "int32"),
      classes: CLASSES,
    };
    const expected = softmaxLoss(data, drawn, 0);
    expect(loss).toBeCloseTo(expected.value, 5);
    // From a velocity of 0 Nesterov's first step is 1.9 times the gradient.
    values(state.classifier).forEach((value, i) => {
      expect(value).toBeCloseTo((drawn[i] ?? NaN) - 1.9 * one.learningRate * (expected.gradient[i] ?? NaN), 5);
    });
    expect(values(state.buffers)).toEqual([...start.buffers]);
    tf.dispose(state);
  });

  it("learns, compiled as eagerly, and keeps no tensor", async () => {
    const before = tf.memory().numTensors;
    const eager = await finetune(start, dataset, plan, silent);
    const compiled = await finetune(start, dataset, { ...plan, eager: false }, silent);
    expect(eager.top1).toBe(1);
    expect(eager.loss).toBeLessThan(0.2);
    expect(values(eager.state.buffers)).not.toEqual([...start.buffers]);
    expect([compiled.loss, compiled.top1, compiled.top5]).toEqual([eager.loss, eager.top1, eager.top5]);
    expect(values(compiled.state.classifier)).toEqual(values(eager.state.classifier));
    tf.dispose([eager.state, compiled.state] as never);
    expect(tf.memory().numTensors).toBe(before);
  });

  it("takes a hidden layer, and fewer samples than a batch", async () => {
    const few = samplesOnly(dataset, "train", Int32Array.of(3, 4));
    expect(few.splits.train.nameOf(0)).toBe("picture 3");
    const { state, layout } = await finetune(start, few, { ...plan, classifier: "mlp", epochs: 2 }, silent);
    expect(layout.parameters.map(({ name }) => name)).toEqual(["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]);
    expect(state.classifier.map(({ shape }) => shape)).toEqual([[128, 128], [128], [128, 2], [2]]);
    tf.dispose(state);
  });
});
