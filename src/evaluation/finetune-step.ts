/**
 * One step of supervised training: an encoder's backbone under a classifier, softmax cross-entropy, SGD with Nesterov
 * momentum as PyTorch has it. A function of tensors alone, so that it can be compiled; weights stay on the device.
 */
import { makeViews, viewStages } from "../data/views.js";
import { tf, type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D } from "../engine/index.js";
import {
  OWN_BATCH,
  BATCH_NORM_MOMENTUM,
  evaluationNorm,
  trainingNorm,
  type Encoder,
  type ForwardContext,
  type ParameterSpec,
} from "../models/index.js";
import { isHead } from "../models/pytorch-layout.js";
import { PROBE_AUGMENTATION } from "./extract.js";

const SGD_MOMENTUM = 0.9;

/** Dense layers, each `[in, out]` weights and `[out]` biases, with ReLU between them. */
export type ClassifierTensors = Tensor[];

/** (Types, since tfjs takes no interface for a container of tensors.) */
export type FinetuneState = {
  /** of the backbone, in the layout's order */
  readonly backbone: Tensor[];
  /** running statistics of the backbone, in the layout's order */
  readonly buffers: Tensor1D[];
  readonly classifier: ClassifierTensors;
  /** of the backbone, or nothing where it is frozen; then of the classifier */
  readonly velocity: Tensor[];
};

export type FinetuneInputs = FinetuneState & {
  /** `[B, S', S', 3]` decoded images, 0 to 255 */
  readonly pixels: Tensor4D;
  /** `[B, DRAW.floats]` */
  readonly draws: Tensor2D;
  /** float32 `[B, C]`, 1 at each sample's class */
  readonly targets: Tensor2D;
  readonly learningRate: Scalar;
};

export type FinetuneResult = FinetuneState & { readonly loss: Scalar };

export interface FinetuneOptions {
  readonly encoder: Encoder;
  /** side of the views in pixels */
  readonly imageSize: number;
  /** whether only the classifier is trained, on features with running statistics */
  readonly frozen: boolean;
  /** of every weight and bias */
  readonly weightDecay: number;
}

export const backboneParameters = ({ layout }: Encoder): readonly ParameterSpec[] =>
  layout.parameters.filter(({ name }) => !isHead(name));

export const backboneBuffers = ({ layout }: Encoder) => layout.buffers.filter(({ name }) => !isHead(name));

/** Features with running statistics, and what the classifier makes of them: `[N, C]`. */
export function evaluationLogits(encoder: Encoder, state: FinetuneState, views: Tensor4D): Tensor2D {
  const features = encoder.features(context(encoder, state.backbone, runningNorm(encoder, state.buffers)), views);
  return classify(state.classifier, features);
}

/** The caller disposes of the state before. */
export function finetuneStep(
  { encoder, imageSize, frozen, weightDecay }: FinetuneOptions,
  inputs: FinetuneInputs,
): FinetuneResult {
  const { backbone, buffers, classifier, velocity, pixels, draws, targets, learningRate } = inputs;
  const views = makeViews(pixels, draws, imageSize, viewStages(PROBE_AUGMENTATION));
  const statistics = new Map<string, Tensor1D>();
  const norm = frozen
    ? runningNorm(encoder, buffers)
    : trainingNorm(OWN_BATCH, (name, mean, variance) => {
        statistics.set(`${name}.running_mean`, tf.keep(mean));
        statistics.set(`${name}.running_var`, tf.keep(variance));
      });
  const fixed = frozen ? encoder.features(context(encoder, backbone, norm), views) : null;
  const trained = frozen ? classifier : [...backbone, ...classifier];
  const { value: loss, grads } = tf.valueAndGrads((...values: Tensor[]) => {
    const own = values.slice(0, values.length - classifier.length);
    const features = fixed === null ? encoder.features(context(encoder, own, norm), tf.clone(views)) : tf.clone(fixed);
    const logits = classify(values.slice(own.length), features);
    return tf.neg<Scalar>(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), targets), 1)));
  })(trained);
  const updated = trained.map((value, index) =>
    nesterov(value, grads[index], velocity[index], learningRate, weightDecay),
  );
  const values = updated.map(({ value }) => value);
  const moved = backboneBuffers(encoder).map(({ name }, index) => {
    const seen = statistics.get(name);
    if (seen === undefined) return tf.clone(buffers[index]);
    const result = tf.add<Tensor1D>(tf.mul(buffers[index], 1 - BATCH_NORM_MOMENTUM), tf.mul(seen, BATCH_NORM_MOMENTUM));
    seen.dispose();
    return result;
  });
  return {
    backbone: frozen ? backbone.map((value) => tf.clone(value)) : values.slice(0, backbone.length),
    classifier: values.slice(values.length - classifier.length),
    buffers: moved,
    velocity: updated.map((one) => one.velocity),
    loss,
  };
}

/** `g ← g + λw; v ← μv + g; w ← w − η(g + μv)`, μ = 0.9 */
export function nesterov(
  value: Tensor,
  gradient: Tensor,
  velocity: Tensor,
  learningRate: Scalar,
  weightDecay: number,
): { readonly value: Tensor; readonly velocity: Tensor } {
  const whole = weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(value, weightDecay));
  const next = tf.add(tf.mul(velocity, SGD_MOMENTUM), whole);
  const step = tf.add(whole, tf.mul(next, SGD_MOMENTUM));
  return { value: tf.sub(value, tf.mul(step, learningRate)), velocity: next };
}

function classify(classifier: readonly Tensor[], features: Tensor2D): Tensor2D {
  let x = features;
  for (let layer = 0; layer < classifier.length; layer += 2) {
    if (layer > 0) x = tf.relu(x);
    x = tf.add<Tensor2D>(tf.matMul(x, classifier[layer]), classifier[layer + 1]);
  }
  return x;
}

function context(encoder: Encoder, values: readonly Tensor[], normalise: ForwardContext["normalise"]): ForwardContext {
  const byName = new Map(backboneParameters(encoder).map(({ name }, index) => [name, values[index]]));
  return {
    normalise,
    parameter: <T extends Tensor>(name: string) => {
      const value = byName.get(name);
      if (value === undefined) throw new Error(`the backbone has no parameter ${name}`);
      return value as T;
    },
  };
}

function runningNorm(encoder: Encoder, buffers: readonly Tensor1D[]): ForwardContext["normalise"] {
  const byName = new Map(backboneBuffers(encoder).map(({ name }, index) => [name, buffers[index]]));
  return evaluationNorm((name) => {
    const buffer = byName.get(name);
    if (buffer === undefined) throw new Error(`the backbone has no buffer ${name}`);
    return buffer;
  });
}
