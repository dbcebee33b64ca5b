/**
 * The run config: one schema that validates, documents (`tandem config` prints each `describe`) and gives the type.
 * Keys are grouped by what they speak of; a dotted name (`moco.temperature`) is what `--set` takes.
 */
import { z } from "zod";
import { isOwnFile } from "./own-file.js";

/** Version of the config's shape, written into `config.yaml`. */
export const CONFIG_VERSION = 1;

const positiveInteger = z.number().int().positive();
const probability = z.number().min(0).max(1);

export const ENCODERS = [
  "resnet-tiny",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "vit-tiny",
  "vit-small",
  "vit-base",
  "text-tiny",
  "text-mini",
  "text-small",
] as const;

export const METHODS = ["moco-v1", "moco-v2", "moco-v3", "simclr", "supcon", "supcon-queue", "own"] as const;
export type Method = (typeof METHODS)[number];

export const OPTIMIZERS = ["sgd", "lars", "adamw"] as const;

const data = z
  .strictObject({
    spec: z
      .string()
      .min(1)
      .describe(
        "where samples come from: synthetic[:classes=10,size=32,train=N,test=N], folder:PATH, cifar10:PATH, cifar100:PATH, stl10:PATH[,split=train|unlabeled|train+unlabeled], webdataset:SHARDS[,test=SHARDS], text:PATH[,text=FIELD][,label=FIELD][,test=PATH] or pairs:FILE[,query=COLUMN][,key=COLUMN][,label=COLUMN][,test=FILE]",
      ),
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
      .describe("memory for decoded images or tokens in each worker, in MiB; past it they are made again"),
    tokenizer: z
      .string()
      .min(1)
      .nullable()
      .describe("tokenizer of texts: a tokenizer.json, as Hugging Face's tokenizers save it; null: images"),
    tokenizerSha256: z
      .string()
      .regex(/^[\da-f]{64}$/)
      .nullable()
      .describe("digest of the tokenizer, which every worker must have; Tandem fills it in. null: none, or not yet"),
    maxLength: positiveInteger.max(8192).describe("L, most tokens of a text; what is longer is cut"),
  })
  .describe("the data set");

const model = z
  .strictObject({
    encoder: z
      .string()
      .refine((name) => isOwnFile(name) || (ENCODERS as readonly string[]).includes(name), {
        error: "there is no such encoder",
      })
      .describe(
        "resnet-tiny, resnet18, resnet34, resnet50, resnet101 (torchvision's), vit-tiny, vit-small, vit-base (timm's), for texts text-tiny, text-mini or text-small, or a file of your own (./my-encoder.js)",
      ),
    encoderSha256: z
      .string()
      .regex(/^[\da-f]{64}$/)
      .nullable()
      .describe(
        "digest of a file of your own, which every worker must have; Tandem fills it in. null: no file, or not yet",
      ),
    stem: z
      .enum(["3x3", "imagenet"])
      .describe(
        "first layer of a ResNet: 3x3 (stride 1, no pooling, small images) or imagenet (7x7, stride 2, max-pool)",
      ),
    patchSize: positiveInteger.max(256).describe("side of a ViT's patches in pixels; it divides data.imageSize"),
    patchProjection: z
      .enum(["frozen", "trained"])
      .describe("whether a ViT's projection of patches stays as it is drawn (frozen, MoCo v3) or learns"),
    vocabulary: positiveInteger
      .max(4_194_304)
      .nullable()
      .describe("tokens that a text encoder knows; null: the tokenizer's, which Tandem fills in"),
    pooling: z
      .enum(["mean", "first"])
      .describe("a text's features: the mean over its tokens, or those of the class token in front"),
    embeddingDim: positiveInteger.max(4096).describe("D, length of the embedding that is contrasted"),
    head: z
      .enum(["mlp", "linear", "mlp-bn"])
      .describe(
        "projection head: mlp (2 layers), linear (MoCo v1) or mlp-bn (with batch norm, MoCo v3: 2 layers, 3 behind a ViT)",
      ),
    predictor: z.boolean().describe("whether queries pass a prediction head behind the projection (MoCo v3)"),
    hiddenDim: positiveInteger
      .max(65_536)
      .nullable()
      .describe("width between the layers of a head; null: the length of a feature vector"),
    bnSplits: positiveInteger.max(256).describe("groups within a rank that batch norm treats apart; 1: none"),
    syncBatchNorm: z
      .boolean()
      .default(false)
      .describe(
        "whether batch norm is of the global batch (SyncBN): ranks wait for each other at every layer that has it",
      ),
  })
  .describe("query and key encoder");

const moco = z
  .strictObject({
    queueSize: positiveInteger.max(4_194_304).describe("K, number of negatives in the queue"),
    keyMomentum: z.number().min(0).max(1).describe("m of θk ← m·θk + (1−m)·θq"),
    keyMomentumSchedule: z
      .enum(["constant", "cosine"])
      .describe("constant, or cosine: m rises from keyMomentum to 1 over the run (MoCo v3)"),
    temperature: z.number().positive().describe("τ, divisor of the logits, of every method"),
    shuffle: z
      .enum(["none", "within-rank", "across-ranks"])
      .describe(
        "shuffling BN: in which order the key encoder sees samples; within-rank across its groups (bnSplits), or across all ranks",
      ),
  })
  .describe("momentum contrast (He et al. 2020)");

const supcon = z
  .strictObject({
    form: z
      .enum(["out", "in"])
      .describe("where the mean over a query's positives stands: outside the logarithm (L_out) or inside (L_in)"),
  })
  .describe("supervised contrast (Khosla et al. 2020), for method: supcon and supcon-queue");

const ownMethod = z
  .strictObject({
    file: z.string().min(1).nullable().describe("where its file is; null: none"),
    sha256: z.string().length(64).nullable().describe("of the file, so that every worker has the same"),
    negatives: z.enum(["queue", "batch"]).describe("where its negatives come from"),
    labels: z.boolean().describe("whether it learns from labels"),
  })
  .describe("a method of your own; --method FILE fills this in");

const optimizer = z
  .strictObject({
    kind: z
      .enum(OPTIMIZERS)
      .describe("sgd (with momentum), lars (layer-wise rates for large batches) or adamw (for transformers)"),
    learningRate: z.number().positive().describe("peak learning rate of the whole global batch"),
    momentum: z.number().min(0).lt(1).nullable().describe("of sgd and lars; null: adamw"),
    trustCoefficient: z.number().positive().nullable().describe("of lars: a layer's rate is this times ‖θ‖ / ‖g‖"),
    beta1: z.number().min(0).lt(1).nullable().describe("of adamw: what its mean of gradients keeps each step"),
    beta2: z.number().min(0).lt(1).nullable().describe("of adamw: what its mean of squared gradients keeps each step"),
    epsilon: z.number().positive().nullable().describe("of adamw: added to the root it divides by"),
    weightDecay: z.number().min(0).describe("sgd and lars: L2 penalty added to the gradient; adamw: decoupled decay"),
    decayNormAndBias: z.boolean().describe("whether weight decay also acts on normalisation's parameters and biases"),
    exclude: z
      .array(z.string().min(1))
      .describe('parameters without weight decay and layer-wise rate, by name; * stands for any characters: ["fc.*"]'),
    clipNorm: z
      .number()
      .positive()
      .nullable()
      .describe("the mean gradient is scaled down to this norm over all parameters where it is longer; null: never"),
    schedule: z
      .enum(["cosine", "step", "constant"])
      .describe(
        "learning rate behind the warm-up: half a cosine to 0, a tenth after 60% and 80% of the run, or constant",
      ),
    warmupEpochs: z.number().min(0).describe("epochs of linear warm-up from 0"),
  })
  .describe("how gradients change the parameters");

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
    gradients: z
      .enum(["fp32", "bf16"])
      .default("fp32")
      .describe("of gradients between processes: bf16 halves what travels, and rounds at every node of the sum"),
  })
  .describe("data parallelism");

const engine = z
  .strictObject({
    mode: z
      .enum(["compiled", "eager", "synthetic"])
      .describe(
        "compiled: the step runs as one TensorFlow graph; eager: operation by operation, to debug; synthetic: nothing is computed or learnt, and a rank takes engine.synthetic.rankMs, to measure a network",
      ),
    synthetic: z
      .strictObject({
        rankMs: z.number().min(0).max(3_600_000).default(0).describe("what a rank takes, in ms"),
        parameters: positiveInteger
          .max(10_000_000_000)
          .nullable()
          .default(null)
          .describe("of the model whose gradients travel; null: the encoder's"),
      })
      .prefault({})
      .describe("where engine.mode is synthetic"),
    precision: z
      .enum(["fp32", "bf16"])
      .describe("of activations and matrix products; bf16 needs compiled steps, and sums, loss and weights stay fp32"),
    heldRanks: positiveInteger
      .default(1)
      .describe(
        "simclr and supcon: ranks whose forward pass a worker holds at once while others show their embeddings; that of others is computed again for their gradients. Never part of the result",
      ),
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
    text: z
      .strictObject({
        dropout: z
          .number()
          .min(0)
          .max(0.9)
          .describe("p of dropout within the encoder, drawn for each view (SimCSE); 0: none"),
        tokenDeletion: z.number().min(0).max(0.9).describe("chance of each token to be left out, though never all"),
        spanCrop: z.strictObject({
          probability: probability.describe("chance that a view is a contiguous part of the text"),
          minShare: z.number().positive().max(1).describe("smallest share of the tokens"),
          maxShare: z.number().positive().max(1).describe("largest share of the tokens"),
        }),
      })
      .describe("of texts; the others are of images"),
  })
  .describe("random views; query and key are drawn apart");

const evaluation = z
  .strictObject({
    everyEpochs: z.number().int().min(0).describe("kNN accuracy every so many epochs, and at start and end; 0: never"),
    neighbours: positiveInteger.describe("k of weighted k-nearest neighbours"),
    temperature: z.number().positive().describe("τ of the neighbours' weights, exp(similarity / τ)"),
    maxTrain: positiveInteger.describe("training samples in the feature bank at most (the first by class and name)"),
    maxTest: positiveInteger.describe("test samples classified at most"),
    linear: z
      .boolean()
      .default(false)
      .describe("at the end a linear probe too, on the features that the workers computed for kNN"),
  })
  .describe("evaluation on the query backbone, whose features the workers compute");

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
    heartbeatMs: positiveInteger.min(50).max(600_000).describe("interval of heartbeats in ms"),
    deadAfterMs: positiveInteger
      .min(200)
      .max(3_600_000)
      .describe(
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
  method: z
    .enum(METHODS)
    .describe(
      "what is trained for: two views of an image are alike, against a queue (moco-v1, moco-v2) or the global batch (moco-v3, " +
        "simclr); or all images of a class are, in the global batch (supcon) or the queue (supcon-queue); own: see ownMethod",
    ),
  data,
  model,
  moco,
  supcon,
  ownMethod,
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
/** What image views are drawn by. */
export type ImageAugmentation = Omit<AugmentationConfig, "text">;
