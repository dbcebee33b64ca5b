/**
 * The run config: one schema that validates, documents (`tandem config` prints each `describe`) and gives the type.
 * Keys are grouped by what they speak of; a dotted name (`moco.temperature`) is what `--set` takes.
 */
import { z } from "zod";

/** Version of the config's shape, written into `config.yaml`. */
export const CONFIG_VERSION = 1;

const positiveInteger = z.number().int().positive();
const probability = z.number().min(0).max(1);

export const ENCODERS = ["resnet-tiny", "resnet18", "resnet50"] as const;
export type EncoderName = (typeof ENCODERS)[number];

const data = z
  .strictObject({
    spec: z
      .string()
      .min(1)
      .describe("where samples come from: synthetic[:classes=10,size=32,train=N,test=N], folder:PATH or cifar10:PATH"),
    imageSize: positiveInteger.max(1024).describe("side of the square image that the encoder sees, in pixels"),
    decodeSize: positiveInteger
      .max(2048)
      .describe(
        "side of the square that an image is decoded to before augmentation, in pixels (shorter side scaled, centre cut)",
      ),
    maxCorrupt: z
      .number()
      .int()
      .min(0)
      .describe("how many images that cannot be decoded are skipped before the run is refused"),
    cacheMiB: z
      .number()
      .int()
      .min(0)
      .describe("memory for decoded images in each worker, in MiB; past it they are decoded again"),
  })
  .describe("the data set");

const model = z
  .strictObject({
    encoder: z.enum(ENCODERS).describe("resnet-tiny, resnet18 or resnet50 (torchvision's structure and names)"),
    stem: z
      .enum(["3x3", "imagenet"])
      .describe("first layer: 3x3 (stride 1, no pooling, small images) or imagenet (7x7, stride 2, max-pool)"),
    embeddingDim: positiveInteger.max(4096).describe("D, length of the embedding that is contrasted"),
    head: z.enum(["mlp", "linear"]).describe("projection head: mlp (MoCo v2, 2 layers) or linear (MoCo v1)"),
    bnSplits: positiveInteger
      .max(256)
      .describe(
        "groups within a rank that batch norm treats apart, with the key batch shuffled across them (shuffling BN); 1: none",
      ),
  })
  .describe("query and key encoder");

const moco = z
  .strictObject({
    queueSize: positiveInteger.max(4_194_304).describe("K, number of negatives in the queue"),
    keyMomentum: z.number().min(0).max(1).describe("m of θk ← m·θk + (1−m)·θq"),
    temperature: z.number().positive().describe("τ, divisor of the logits in InfoNCE"),
  })
  .describe("momentum contrast (He et al. 2020)");

const optimizer = z
  .strictObject({
    learningRate: z.number().positive().describe("peak learning rate of the whole global batch"),
    momentum: z.number().min(0).lt(1).describe("momentum of SGD"),
    weightDecay: z.number().min(0).describe("L2 penalty added to the gradient"),
    decayNormAndBias: z.boolean().describe("whether weight decay also acts on batch-norm parameters and biases"),
    warmupEpochs: z.number().min(0).describe("epochs of linear warm-up from 0 before the cosine decay to 0"),
  })
  .describe("SGD with momentum, linear warm-up, cosine decay");

const schedule = z
  .strictObject({
    epochs: positiveInteger.describe("passes over the training samples"),
    steps: positiveInteger.nullable().describe("optimizer updates; null: epochs × updates in an epoch"),
  })
  .describe("how long to train");

const parallel = z
  .strictObject({
    worldSize: positiveInteger
      .max(65536)
      .describe("W, logical ranks; fixed for the run, whatever the number of workers"),
    batchSize: positiveInteger
      .max(65536)
      .describe("B, samples of one logical rank in one step; the global batch is W·B"),
    threads: positiveInteger
      .max(1024)
      .describe("intra-op threads of a worker; part of the result, because sums depend on them"),
    workers: positiveInteger
      .max(4096)
      .describe("worker processes that `tandem train` starts; never part of the result"),
  })
  .describe("data parallelism");

const engine = z
  .strictObject({
    mode: z
      .enum(["compiled", "eager"])
      .describe("compiled: the step runs as one TensorFlow graph; eager: operation by operation, to debug"),
    precision: z
      .enum(["fp32", "bf16"])
      .describe("of activations and matrix products; bf16 needs compiled steps, and sums, loss and weights stay fp32"),
  })
  .describe("how steps are computed; part of the result");

const jitter = z.strictObject({
  probability: probability.describe("chance that a view is jittered"),
  brightness: z.number().min(0).max(1).describe("factor drawn from [1−x, 1+x]"),
  contrast: z.number().min(0).max(1).describe("factor drawn from [1−x, 1+x]"),
  saturation: z.number().min(0).max(1).describe("factor drawn from [1−x, 1+x]"),
  hue: z.number().min(0).max(0.5).describe("rotation of the hue drawn from [−x, x] turns"),
});

const augmentation = z
  .strictObject({
    crop: z.strictObject({
      probability: probability.describe("chance of a random resized crop"),
      minScale: z.number().positive().max(1).describe("smallest share of the area"),
      maxScale: z.number().positive().max(1).describe("largest share of the area"),
    }),
    flip: z.strictObject({ probability: probability.describe("chance of a horizontal flip") }),
    rotation: z.strictObject({
      probability: probability.describe("chance of a rotation"),
      degrees: z.number().min(0).max(180).describe("angle drawn from [−x, x] degrees"),
    }),
    jitter,
    grayscale: z.strictObject({ probability: probability.describe("chance that colour is removed") }),
    blur: z.strictObject({
      probability: probability.describe("chance of a Gaussian blur"),
      minSigma: z.number().positive().describe("smallest σ in pixels"),
      maxSigma: z.number().positive().describe("largest σ in pixels"),
    }),
  })
  .describe("random views; query and key are drawn apart");

const evaluation = z
  .strictObject({
    everyEpochs: z.number().int().min(0).describe("kNN accuracy every so many epochs, and at start and end; 0: never"),
    neighbours: positiveInteger.describe("k of weighted k-nearest neighbours"),
    temperature: z.number().positive().describe("τ of the neighbours' weights, exp(similarity / τ)"),
    maxTrain: positiveInteger.describe("training samples in the feature bank at most (the first by class and name)"),
    maxTest: positiveInteger.describe("test samples classified at most"),
  })
  .describe("kNN evaluation on the query backbone");

const checkpoint = z
  .strictObject({
    everySteps: z
      .number()
      .int()
      .min(0)
      .describe("write a checkpoint every so many steps, and always at the end; 0: only at the end"),
    keep: positiveInteger.describe("checkpoints kept; older ones are removed"),
  })
  .describe("checkpoints");

const membership = z
  .strictObject({
    minWorkers: positiveInteger.describe("the run waits while it has fewer workers"),
    heartbeatMs: positiveInteger.describe("interval of heartbeats in ms"),
    deadAfterMs: positiveInteger.describe(
      "silence after which a worker counts as dead to the coordinator, and the coordinator to a worker, in ms",
    ),
    lateQuantile: z
      .number()
      .positive()
      .max(1)
      .describe(
        "a rank that takes twice this quantile of recent times is given to an idle worker too; the first counts",
      ),
    allowMixedHardware: z
      .boolean()
      .describe("admit workers whose engine computes other bits; the run can then not be repeated bit for bit"),
  })
  .describe("workers coming and going");

const numerics = z
  .strictObject({
    nonFinite: z
      .enum(["stop", "skip"])
      .describe("a loss or gradient that is NaN or infinite ends the run (stop), or its step is left out (skip)"),
  })
  .describe("arithmetic that goes wrong");

export const runConfigSchema = z.strictObject({
  version: z.literal(CONFIG_VERSION).describe("version of this file's shape"),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).describe("seed of every random draw"),
  data,
  model,
  moco,
  optimizer,
  schedule,
  parallel,
  engine,
  numerics,
  augmentation,
  evaluation,
  checkpoint,
  membership,
});

export type RunConfig = z.infer<typeof runConfigSchema>;
export type AugmentationConfig = RunConfig["augmentation"];
