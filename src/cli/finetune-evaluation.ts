/** The work of `tandem evaluate finetune`. Loads the engine. */
import { encodeSafetensors, writeSynced, type NamedTensor } from "../checkpoint/index.js";
import { cacheDecoded, type ImageDataset } from "../data/index.js";
import { tf, type Tensor } from "../engine/index.js";
import { samplesOnly } from "../evaluation/extract.js";
import { backboneBuffers, backboneParameters, type FinetuneState } from "../evaluation/finetune-step.js";
import { finetune } from "../evaluation/finetune.js";
import { balancedSubset } from "../evaluation/labelled-subset.js";
import type { Accuracy } from "../evaluation/softmax-regression.js";
import { encoderOf, type Encoder, type ParameterLayout } from "../models/index.js";
import { pytorchState } from "../models/pytorch-layout.js";
import { openClassifiedImages, trainingLabels } from "./classified-data.js";
import { encoderStateOf } from "./checkpoint-encoder.js";
import type { OpenedEvaluation } from "./evaluation-options.js";
import { writeOutput } from "./output-file.js";
import { warn } from "./run-display.js";

export interface FinetuneRequest {
  readonly head: "linear" | "mlp";
  /** whether the classifier alone is trained */
  readonly freeze: boolean;
  readonly epochs: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly seed: number;
  /** of the training samples, in (0, 1] */
  readonly share: number;
  readonly eager: boolean;
  /** file for the trained weights; null: none */
  readonly out: string | null;
}

export interface FinetuneOutcome extends Accuracy {
  readonly loss: number;
  readonly train: number;
  readonly test: number;
}

const MIB = 1024 * 1024;

export async function evaluateFinetune(
  { path, checkpoint, spec, maxTrain, maxTest }: OpenedEvaluation,
  request: FinetuneRequest,
): Promise<FinetuneOutcome> {
  const { config } = checkpoint.meta;
  const { data } = config;
  const encoder = await encoderOf(config);
  const whole = await openClassifiedImages(spec, config);
  const chosen = balancedSubset(trainingLabels(whole, maxTrain), request.share, request.seed);
  const judged = Int32Array.from({ length: Math.min(maxTest, whole.splits.test.length) }, (_, index) => index);
  const labelled = samplesOnly(samplesOnly(whole, "train", chosen), "test", judged);
  const train = cacheDecoded(labelled.splits.train, data.decodeSize, data.cacheMiB * MIB);
  const dataset: ImageDataset = { ...labelled, splits: { ...labelled.splits, train } };
  const start = encoderStateOf(checkpoint, encoder.layout, "query", path);
  const { head: classifier, freeze: frozen, batch: batchSize, out, ...rest } = request;
  const { imageSize } = data;
  const plan = { ...rest, encoder, imageSize, classifier, frozen, batchSize, data };
  const { state, layout, top1, top5, loss } = await finetune(start, dataset, plan, {
    warn,
    epochDone: (epoch, value) => {
      process.stderr.write(`epoch ${epoch}/${request.epochs}  loss ${value.toFixed(3)}\n`);
    },
  });
  if (out !== null) {
    const parts = encodeSafetensors(classifierState(encoder, layout, state), {
      format: "pt",
      source: "tandem",
      architecture: config.model.encoder,
      classes: JSON.stringify(dataset.classes),
    });
    await writeOutput(out, async (temporary) => {
      await writeSynced(temporary, parts);
    });
  }
  tf.dispose(state);
  return { top1, top5, loss, train: chosen.length, test: judged.length };
}

/** Backbone and classifier under torchvision's names, in PyTorch's layouts. */
function classifierState(encoder: Encoder, classifier: ParameterLayout, state: FinetuneState): NamedTensor[] {
  const parameters = new Float32Array(encoder.layout.parameterCount);
  const buffers = new Float32Array(encoder.layout.bufferCount);
  const values = (tensor: Tensor) => tensor.dataSync() as Float32Array;
  backboneParameters(encoder).forEach(({ offset }, index) => parameters.set(values(state.backbone[index]), offset));
  backboneBuffers(encoder).forEach(({ offset }, index) => buffers.set(values(state.buffers[index]), offset));
  const head = new Float32Array(classifier.parameterCount);
  classifier.parameters.forEach(({ offset }, index) => head.set(values(state.classifier[index]), offset));
  return [
    ...pytorchState(encoder.layout, { parameters, buffers }, { withHead: false, step: 0 }),
    ...pytorchState(classifier, { parameters: head, buffers: new Float32Array(0) }, { withHead: true, step: 0 }),
  ];
}
