/** Ready-made configs. `cifar10` and `imagenet` carry the published recipes; `quickstart` fits two cores and minutes. */
import { CONFIG_VERSION, type AugmentationConfig, type RunConfig } from "./schema.js";

/** MoCo v2's augmentation (Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning", appendix A). */
const MOCO_V2_AUGMENTATION: AugmentationConfig = {
  crop: { probability: 1, minScale: 0.2, maxScale: 1 },
  flip: { probability: 0.5 },
  rotation: { probability: 0, degrees: 10 },
  jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
  grayscale: { probability: 0.2 },
  blur: { probability: 0.5, minSigma: 0.1, maxSigma: 2 },
  // Dropout as in SimCSE (Gao, Yao and Chen 2021); independent crops and deletion nearly as in Contriever (Izacard et al. 2021).
  text: { dropout: 0.1, tokenDeletion: 0.1, spanCrop: { probability: 1, minShare: 0.3, maxShare: 0.5 } },
};

const NO_TEXTS = { tokenizer: null, tokenizerSha256: null, maxLength: 64 };

const PATCHES = { patchSize: 16, patchProjection: "frozen", vocabulary: null, pooling: "mean" } as const;

const PLAIN_HEAD = { predictor: false, hiddenDim: null };

const SGD = {
  ...{ kind: "sgd", momentum: 0.9, trustCoefficient: null, beta1: null, beta2: null, epsilon: null },
  ...{ decayNormAndBias: false, exclude: [], clipNorm: null, schedule: "cosine", warmupEpochs: 0 },
} satisfies Partial<RunConfig["optimizer"]>;

const MEMBERSHIP = {
  minWorkers: 1,
  heartbeatMs: 1000,
  deadAfterMs: 10_000,
  lateQuantile: 0.95,
  allowMixedHardware: false,
};

const cifar10: RunConfig = {
  version: CONFIG_VERSION,
  seed: 0,
  method: "moco-v2",
  data: {
    spec: "cifar10:data/cifar-10-batches-bin",
    imageSize: 32,
    decodeSize: 32,
    maxCorrupt: 0,
    cacheMiB: 1024,
    ...NO_TEXTS,
  },
  model: {
    ...{ encoder: "resnet18", encoderSha256: null, stem: "3x3", ...PATCHES },
    ...{ embeddingDim: 128, head: "mlp", ...PLAIN_HEAD, bnSplits: 1, syncBatchNorm: false },
  },
  moco: {
    queueSize: 4096,
    keyMomentum: 0.99,
    keyMomentumSchedule: "constant",
    temperature: 0.1,
    shuffle: "within-rank",
  },
  supcon: { form: "out" },
  ownMethod: { file: null, sha256: null, negatives: "batch", labels: false },
  optimizer: { ...SGD, learningRate: 0.06, weightDecay: 5e-4 },
  schedule: { epochs: 200, steps: null },
  parallel: { worldSize: 8, batchSize: 64, threads: 1, workers: 2, gradients: "fp32" },
  engine: { mode: "compiled", precision: "fp32", heldRanks: 1, synthetic: { rankMs: 0, parameters: null } },
  numerics: { nonFinite: "stop" },
  // MoCo's CIFAR-10 demo: no blur at 32 pixels.
  augmentation: { ...MOCO_V2_AUGMENTATION, blur: { ...MOCO_V2_AUGMENTATION.blur, probability: 0 } },
  evaluation: { everyEpochs: 5, neighbours: 200, temperature: 0.1, maxTrain: 50_000, maxTest: 10_000, linear: false },
  checkpoint: { everySteps: 500, keep: 3 },
  membership: MEMBERSHIP,
};

const imagenet: RunConfig = {
  ...cifar10,
  data: { spec: "folder:data/imagenet", imageSize: 224, decodeSize: 256, maxCorrupt: 100, cacheMiB: 1024, ...NO_TEXTS },
  model: {
    ...{ encoder: "resnet50", encoderSha256: null, stem: "imagenet", ...PATCHES },
    ...{ embeddingDim: 128, head: "mlp", ...PLAIN_HEAD, bnSplits: 1, syncBatchNorm: false },
  },
  moco: {
    queueSize: 65_536,
    keyMomentum: 0.999,
    keyMomentumSchedule: "constant",
    temperature: 0.2,
    shuffle: "within-rank",
  },
  optimizer: { ...cifar10.optimizer, learningRate: 0.03, weightDecay: 1e-4 },
  parallel: { worldSize: 8, batchSize: 32, threads: 1, workers: 2, gradients: "fp32" },
  augmentation: MOCO_V2_AUGMENTATION,
  evaluation: { ...cifar10.evaluation, everyEpochs: 10 },
  checkpoint: { everySteps: 1000, keep: 3 },
};

const quickstart: RunConfig = {
  ...cifar10,
  data: { ...cifar10.data, spec: "synthetic:classes=10,size=32,train=4000,test=1000", cacheMiB: 64 },
  model: { ...cifar10.model, encoder: "resnet-tiny" },
  moco: {
    queueSize: 2048,
    keyMomentum: 0.99,
    keyMomentumSchedule: "constant",
    temperature: 0.2,
    shuffle: "within-rank",
  },
  schedule: { epochs: 15, steps: null },
  parallel: { worldSize: 2, batchSize: 64, threads: 1, workers: 2, gradients: "fp32" },
  // Colours and light tell synthetic pictures apart but not their classes: the views must not share them.
  augmentation: {
    ...cifar10.augmentation,
    crop: { probability: 1, minScale: 0.4, maxScale: 1 },
    rotation: { probability: 0.5, degrees: 10 },
    jitter: { probability: 1, brightness: 0.8, contrast: 0.6, saturation: 0.4, hue: 0.5 },
    grayscale: { probability: 0.5 },
  },
  evaluation: { ...cifar10.evaluation, everyEpochs: 3, maxTrain: 4000, maxTest: 1000 },
  checkpoint: { everySteps: 100, keep: 3 },
  membership: { ...MEMBERSHIP, heartbeatMs: 500, deadAfterMs: 5000 },
};

/** Short paragraphs by MoCo v2. */
const text: RunConfig = {
  ...quickstart,
  data: {
    ...{ ...cifar10.data, spec: "text:data/corpus.jsonl", cacheMiB: 256 },
    ...{ tokenizer: "data/tokenizer.json", maxLength: 64 },
  },
  model: { ...cifar10.model, encoder: "text-tiny" },
  moco: { ...quickstart.moco, temperature: 0.1, shuffle: "none" },
  optimizer: {
    ...{ ...SGD, kind: "adamw", momentum: null, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    ...{ learningRate: 1e-3, weightDecay: 0.01, warmupEpochs: 1 },
  },
  schedule: { epochs: 10, steps: null },
  augmentation: MOCO_V2_AUGMENTATION,
  evaluation: { ...cifar10.evaluation, everyEpochs: 2, neighbours: 20 },
};

export const PRESETS = { quickstart, cifar10, imagenet, text } as const satisfies Record<string, RunConfig>;
export type PresetName = keyof typeof PRESETS;
export const PRESET_NAMES = Object.keys(PRESETS) as readonly PresetName[];
