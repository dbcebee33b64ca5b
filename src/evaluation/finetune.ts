/** Supervised training from a checkpoint: the backbone and a new classifier on labelled samples. */
import { CorruptLimit, drawViews, DRAW_FLOATS, epochPermutation, readBatch, type ImageDataset } from "../data/index.js";
import { normaliseChannels, resizeSquare } from "../data/views.js";
import {
  CannotCompile,
  compile,
  tf,
  tidied,
  type Scalar,
  type Tensor,
  type Tensor2D,
  type Tensor4D,
} from "../engine/index.js";
import type { Encoder, ParameterLayout } from "../models/index.js";
import { initialParameters, LayoutBuilder } from "../models/parameters.js";
import type { EncoderState } from "../models/pytorch-layout.js";
import { EXTRACTION_BATCH, PROBE_AUGMENTATION } from "./extract.js";
import type { SampleSizes } from "./features.js";
import {
  backboneBuffers,
  backboneParameters,
  evaluationLogits,
  finetuneStep,
  type FinetuneInputs,
  type FinetuneOptions,
  type FinetuneResult,
  type FinetuneState,
} from "./finetune-step.js";
import { accuracyOfLogits, type Accuracy } from "./softmax-regression.js";

export interface FinetunePlan extends FinetuneOptions {
  readonly classifier: "linear" | "mlp";
  readonly epochs: number;
  /** samples in a step at most */
  readonly batchSize: number;
  /** peak; cosine decay to 0 */
  readonly learningRate: number;
  readonly seed: number;
  readonly data: SampleSizes & { readonly maxCorrupt: number };
  /** whether steps run operation by operation */
  readonly eager: boolean;
}

export interface FinetuneObserver {
  /** @param loss mean over the epoch's samples */
  epochDone(epoch: number, loss: number): void;
  warn(message: string): void;
}

export interface Finetuned extends Accuracy {
  /** mean over the last epoch's samples */
  readonly loss: number;
  readonly state: FinetuneState;
  readonly layout: ParameterLayout;
}

/** Names as torchvision has a classifier: `fc`, or with a hidden layer of the features' width `fc.0` and `fc.2`. */
export function classifierLayout(
  kind: FinetunePlan["classifier"],
  dimension: number,
  classes: number,
): ParameterLayout {
  const builder = new LayoutBuilder();
  const dense = (name: string, inputs: number, outputs: number) => {
    builder.parameter(`${name}.weight`, [inputs, outputs], "dense");
    builder.parameter(`${name}.bias`, [outputs], "dense-bias");
  };
  if (kind === "linear") dense("fc", dimension, classes);
  else {
    dense("fc.0", dimension, dimension);
    dense("fc.2", dimension, classes);
  }
  return builder.build();
}

/**
 * @param dataset trained on its training split, judged on its test split; both labelled
 * @returns `state` on the device; the caller disposes of it
 * @throws UserError where the data cannot be read
 */
export async function finetune(
  start: EncoderState,
  dataset: ImageDataset,
  plan: FinetunePlan,
  observer: FinetuneObserver,
): Promise<Finetuned> {
  const { encoder, epochs, seed, data, learningRate } = plan;
  const { train } = dataset.splits;
  const batchSize = Math.min(plan.batchSize, train.length);
  const steps = Math.floor(train.length / batchSize);
  const layout = classifierLayout(plan.classifier, encoder.featureDim, dataset.classes.length);
  let state = initialState(start, encoder, layout, plan);
  const limit = new CorruptLimit(data.maxCorrupt);
  const onCorrupt = (name: string) => {
    if (limit.count(name)) observer.warn(`image ${name} cannot be decoded; another stands in`);
  };
  const batchOf = async (
    epoch: number,
    indices: Int32Array,
  ): Promise<Omit<FinetuneInputs, keyof FinetuneState | "learningRate">> => {
    const images = new Uint8Array(indices.length * data.decodeSize ** 2 * 3);
    const samples = await readBatch(train, indices, images, onCorrupt);
    const draws = drawViews(PROBE_AUGMENTATION, seed, epoch, samples, 0, data.imageSize, data.decodeSize);
    const labels = samples.map((sample) => train.labels[sample]);
    return {
      pixels: tf.tensor4d(new Float32Array(images), [samples.length, data.decodeSize, data.decodeSize, 3]),
      draws: tf.tensor2d(draws, [samples.length, DRAW_FLOATS]),
      targets: tf.tidy(() => tf.oneHot(tf.tensor1d(labels, "int32"), dataset.classes.length).toFloat() as Tensor2D),
    };
  };
  const run = await preparedStep(plan, { ...state, ...(await batchOf(0, new Int32Array(batchSize))) }, observer);
  let loss = NaN;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = epochPermutation(seed, epoch, train.length);
    let sum = 0;
    for (let step = 0; step < steps; step++) {
      const batch = await batchOf(epoch, order.subarray(step * batchSize, (step + 1) * batchSize));
      const rate = 0.5 * learningRate * (1 + Math.cos((Math.PI * (epoch * steps + step)) / (epochs * steps)));
      const scalar = tf.scalar(rate);
      const { loss: own, ...next } = run({ ...state, ...batch, learningRate: scalar });
      tf.dispose([state, batch, scalar] as never);
      state = next;
      sum += own.dataSync()[0];
      own.dispose();
    }
    loss = sum / steps;
    observer.epochDone(epoch + 1, loss);
  }
  return { ...(await judged(state, dataset, plan, onCorrupt)), loss, state, layout };
}

/** Compiled where it can be. Disposes of the example. */
async function preparedStep(
  plan: FinetunePlan,
  example: Omit<FinetuneInputs, "learningRate">,
  observer: FinetuneObserver,
): Promise<(inputs: FinetuneInputs) => FinetuneResult> {
  const { imageSize, frozen, weightDecay, encoder } = plan;
  const step = (inputs: FinetuneInputs) =>
    tidied(() => finetuneStep({ imageSize, frozen, weightDecay, encoder }, inputs));
  const { pixels, draws, targets } = example;
  const learningRate: Scalar = tf.scalar(0);
  try {
    if (plan.eager) return step;
    const names = encoder.layout.parameters.map(({ name, shape }) => [name, shape]);
    const identity = JSON.stringify({ part: "finetune", imageSize, frozen, weightDecay, names });
    const compiled = await compile(step, { ...example, learningRate }, { precision: "fp32", identity });
    return (inputs) => compiled.run(inputs);
  } catch (error) {
    if (!(error instanceof CannotCompile)) throw error;
    observer.warn(`the step cannot be compiled and runs eagerly: ${error.message}`);
    return step;
  } finally {
    tf.dispose([pixels, draws, targets, learningRate]);
  }
}

function initialState(
  { parameters, buffers }: EncoderState,
  encoder: Encoder,
  layout: ParameterLayout,
  { seed, frozen }: FinetunePlan,
): FinetuneState {
  const drawn = initialParameters(layout, seed);
  const tensor = (
    values: Float32Array,
    { offset, size, shape }: { offset: number; size: number; shape: readonly number[] },
  ) => tf.tensor(values.slice(offset, offset + size), [...shape]);
  const backbone = backboneParameters(encoder).map((spec) => tensor(parameters, spec));
  const classifier = layout.parameters.map((spec) => tensor(drawn, spec));
  const trained: Tensor[] = frozen ? classifier : [...backbone, ...classifier];
  return {
    backbone,
    classifier,
    buffers: backboneBuffers(encoder).map(({ offset, size }) => tf.tensor1d(buffers.slice(offset, offset + size))),
    velocity: trained.map((value) => tf.zerosLike(value)),
  };
}

async function judged(
  state: FinetuneState,
  dataset: ImageDataset,
  { encoder, data }: FinetunePlan,
  onCorrupt: (name: string) => void,
): Promise<Accuracy> {
  const { test } = dataset.splits;
  let [top1, top5] = [0, 0];
  for (let start = 0; start < test.length; start += EXTRACTION_BATCH) {
    const indices = Array.from({ length: Math.min(EXTRACTION_BATCH, test.length - start) }, (_, i) => start + i);
    const images = new Uint8Array(indices.length * data.decodeSize ** 2 * 3);
    const samples = await readBatch(test, indices, images, onCorrupt);
    const accuracy = tidied(() => {
      const shape: [number, number, number, number] = [indices.length, data.decodeSize, data.decodeSize, 3];
      const pixels: Tensor4D = tf.tensor4d(new Float32Array(images), shape);
      const views = normaliseChannels(resizeSquare(pixels, data.imageSize));
      return accuracyOfLogits(
        evaluationLogits(encoder, state, views),
        samples.map((sample) => test.labels[sample]),
      );
    });
    top1 += (accuracy.top1 * indices.length) / test.length;
    top5 += (accuracy.top5 * indices.length) / test.length;
  }
  return { top1, top5 };
}
