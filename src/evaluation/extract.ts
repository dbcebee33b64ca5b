/** A split's samples through an encoder, batch by batch. */
import type { ImageAugmentation } from "../config/schema.js";
import {
  CorruptLimit,
  DRAW_FLOATS,
  drawViews,
  type ImageDataset,
  readSamples,
  type RunDataset,
  type SampleValues,
  type Split,
  type View,
} from "../data/index.js";
import { makeViews, viewStages } from "../data/views.js";
import { tf } from "../engine/index.js";
import { embed, embeddings, type Embedding, type FrozenEncoder, type SampleSizes } from "./features.js";
import type { LabelledFeatures } from "./knn.js";

/** Samples that go through the encoder at a time. */
export const EXTRACTION_BATCH = 250;

/** From n samples to features, float32 `[n, dimension]`. */
export interface Extractor {
  readonly dimension: number;
  /** images that cannot be decoded before the data are refused */
  readonly maxCorrupt: number;
  /** @param samples `[n]`, their numbers in the split */
  readonly extract: (values: SampleValues, samples: Int32Array) => Float32Array;
}

/** A run's config, as far as it says how samples come to the encoder. */
export interface ExtractionConfig {
  readonly data: SampleSizes & { readonly maxCorrupt: number };
  readonly model: { readonly embeddingDim: number };
}

/** At rest, without augmentation. */
export function encoderExtractor(
  frozen: FrozenEncoder,
  config: ExtractionConfig,
  what: Embedding = "features",
): Extractor {
  return {
    dimension: what === "features" ? frozen.encoder.featureDim : config.model.embeddingDim,
    maxCorrupt: config.data.maxCorrupt,
    extract: (samples) => embeddings(frozen, samples, config.data, what),
  };
}

/** Random resized crops and flips of the papers' linear evaluation (He et al. 2020, section 4.1), and nothing else. */
export const PROBE_AUGMENTATION: ImageAugmentation = {
  crop: { probability: 1, minScale: 0.08, maxScale: 1 },
  flip: { probability: 0.5 },
  rotation: { probability: 0, degrees: 0 },
  jitter: { probability: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0 },
  grayscale: { probability: 0 },
  blur: { probability: 0, minSigma: 0.1, maxSigma: 2 },
};

/** Which random views, and what is made of them. */
export interface RandomViews {
  readonly augmentation: ImageAugmentation;
  readonly what: Embedding;
  readonly seed: number;
  /** copies of a sample have different ones */
  readonly epoch: number;
  readonly view: View;
}

/** Features of random views of images: a pure function of what `views` says and the sample. */
export function augmentedExtractor(
  frozen: FrozenEncoder,
  config: ExtractionConfig,
  { augmentation, what, seed, epoch, view }: RandomViews,
): Extractor {
  const { decodeSize, imageSize } = config.data;
  const stages = viewStages(augmentation);
  return {
    ...encoderExtractor(frozen, config, what),
    extract: (values, samples) =>
      tf.tidy(() => {
        if (values.modality !== "image") throw new Error("random views of images were asked of texts");
        const count = samples.length;
        const pixels = tf.tensor4d(new Float32Array(values.pixels), [count, decodeSize, decodeSize, 3]);
        const draws = drawViews(augmentation, seed, epoch, samples, view, imageSize, decodeSize);
        const views = makeViews(pixels, tf.tensor2d(draws, [count, DRAW_FLOATS]), imageSize, stages);
        return embed(frozen, views, what).dataSync() as Float32Array;
      }),
  };
}

export interface FeatureBatch {
  /** number of its first row in the split */
  readonly start: number;
  /** float32 `[count, dimension]` */
  readonly features: Float32Array;
  /** int32 `[count]`: the samples that the rows are of; another stands in for one that cannot be decoded */
  readonly samples: Int32Array;
}

/**
 * @param most samples at most, the first of the split
 * @param warn hears of images that cannot be decoded
 * @throws UserError where more than `maxCorrupt` cannot be decoded
 */
export async function* featureBatches(
  extractor: Extractor,
  dataset: RunDataset,
  split: Split,
  most: number,
  warn: (message: string) => void,
): AsyncGenerator<FeatureBatch> {
  const source = dataset.splits[split];
  const count = Math.min(most, source.length);
  const limit = new CorruptLimit(extractor.maxCorrupt);
  for (let start = 0; start < count; start += EXTRACTION_BATCH) {
    const indices = Array.from({ length: Math.min(EXTRACTION_BATCH, count - start) }, (_, i) => start + i);
    const { values, samples } = await readSamples(dataset, split, indices, (name) => {
      if (limit.count(name)) warn(`image ${name} cannot be decoded; another stands in`);
    });
    yield { start, features: extractor.extract(values, samples), samples };
  }
}

/**
 * The data set with nothing but chosen samples in one split.
 * @param indices of samples of the split
 */
export function samplesOnly(dataset: ImageDataset, split: Split, indices: Int32Array): ImageDataset {
  const source = dataset.splits[split];
  const chosen = {
    length: indices.length,
    labels: indices.map((index) => source.labels[index]),
    nameOf: (place: number) => source.nameOf(indices[place]),
    read: (place: number, target: Uint8Array, offset: number) => source.read(indices[place], target, offset),
  };
  return { ...dataset, splits: { ...dataset.splits, [split]: chosen } };
}

/** All of them at once. Parameters as of `featureBatches`. */
export async function extractFeatures(
  extractor: Extractor,
  dataset: RunDataset,
  split: Split,
  most: number,
  warn: (message: string) => void,
): Promise<LabelledFeatures> {
  const { dimension } = extractor;
  const source = dataset.splits[split];
  const count = Math.min(most, source.length);
  const features = new Float32Array(count * dimension);
  const labels = new Int32Array(count);
  for await (const batch of featureBatches(extractor, dataset, split, most, warn)) {
    features.set(batch.features, batch.start * dimension);
    labels.set(
      batch.samples.map((sample) => source.labels[sample]),
      batch.start,
    );
  }
  return { features, labels, dimension };
}
