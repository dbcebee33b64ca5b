/** A split's samples through an encoder, batch by batch. */
import type { AugmentationConfig, ImageAugmentation, RunConfig } from "../config/schema.js";
import { dropoutFactors } from "../config/text-encoders.js";
import {
  CorruptLimit,
  DRAW_FLOATS,
  drawViews,
  type ImageSource,
  readSamples,
  type RunDataset,
  type SampleValues,
  type Split,
  textView,
  type TokenDataset,
  type TokenSource,
  type View,
} from "../data/index.js";
import { makeViews, viewStages } from "../data/views.js";
import { tf } from "../engine/index.js";
import { textRows, type Views } from "../models/index.js";
import { embed, embeddings, type Embedding, type FrozenEncoder, type SampleSizes } from "./features.js";
import type { KeptRows, Rows } from "./kept-rows.js";
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

/** The same, and of texts what the run crops and leaves out, without dropout. */
export function probeAugmentation({ text }: Pick<AugmentationConfig, "text">): AugmentationConfig {
  return { ...PROBE_AUGMENTATION, text: { ...text, dropout: 0 } };
}

/** Which random views, and what is made of them. */
export interface RandomViews {
  readonly augmentation: AugmentationConfig;
  readonly what: Embedding;
  readonly seed: number;
  /** copies of a sample have different ones */
  readonly epoch: number;
  readonly view: View;
}

/**
 * Features of random views of a split: a pure function of what `views` says and the sample.
 * @param dataset and `split`: what the extractor will be used on
 */
export function augmentedExtractor(
  frozen: FrozenEncoder,
  config: ExtractionConfig & Pick<RunConfig, "model">,
  views: RandomViews,
  dataset: RunDataset,
  split: Split,
): Extractor {
  const viewsOf =
    dataset.modality === "image" ? imageViewsAs(views, config) : textViewsAs(views, config, dataset, split);
  return {
    ...encoderExtractor(frozen, config, views.what),
    extract: (values, samples) =>
      tf.tidy(() => embed(frozen, viewsOf(values, samples), views.what).dataSync() as Float32Array),
  };
}

type MakeViews = (values: SampleValues, samples: Int32Array) => Views;

function imageViewsAs({ augmentation, seed, epoch, view }: RandomViews, { data }: ExtractionConfig): MakeViews {
  const { decodeSize, imageSize } = data;
  const stages = viewStages(augmentation);
  return (values, samples) => {
    if (values.modality !== "image") throw new Error("random views of images were asked of texts");
    const count = samples.length;
    const pixels = tf.tensor4d(new Float32Array(values.pixels), [count, decodeSize, decodeSize, 3]);
    const draws = drawViews(augmentation, seed, epoch, samples, view, imageSize, decodeSize);
    return makeViews(pixels, tf.tensor2d(draws, [count, DRAW_FLOATS]), imageSize, stages);
  };
}

/** Texts are cropped before they are cut to their greatest length: their tokens come from the data set, not from what was read. */
function textViewsAs(
  { augmentation, ...draw }: RandomViews,
  { model }: Pick<RunConfig, "model">,
  { splits, frame, maxLength }: TokenDataset,
  split: Split,
): MakeViews {
  const factors = dropoutFactors({ model, augmentation });
  const plan = { ...draw, frame, maxLength, factors, augmentation: augmentation.text };
  return (_, samples) => {
    const { ids, dropout } = textView(splits[split], samples, plan);
    const factorRows = factors === 0 ? null : tf.tensor2d(dropout.slice(), [samples.length, factors]);
    return textRows(tf.tensor2d(ids.slice(), [samples.length, maxLength], "int32"), factorRows);
  };
}

/** `samples`: those that the rows are of; another stands in for one that cannot be decoded. */
export interface FeatureBatch extends Rows {
  /** number of its first row in the split */
  readonly start: number;
}

/**
 * @param most samples at most, the first of the split
 * @param from which of them on
 * @param warn hears of images that cannot be decoded
 * @throws UserError where more than `maxCorrupt` cannot be decoded
 */
export async function* featureBatches(
  extractor: Extractor,
  dataset: RunDataset,
  split: Split,
  most: number,
  warn: (message: string) => void,
  from = 0,
): AsyncGenerator<FeatureBatch> {
  const source = dataset.splits[split];
  const count = Math.min(most, source.length);
  const limit = new CorruptLimit(extractor.maxCorrupt);
  for (let start = from; start < count; start += EXTRACTION_BATCH) {
    const indices = Array.from({ length: Math.min(EXTRACTION_BATCH, count - start) }, (_, i) => start + i);
    const { values, samples } = await readSamples(dataset, split, indices, (name) => {
      if (limit.count(name)) warn(`image ${name} cannot be decoded; another stands in`);
    });
    yield { start, features: extractor.extract(values, samples), samples };
  }
}

/**
 * The data set with nothing but chosen samples in one split; of pairs, the queries.
 * @param indices of samples of the split
 */
export function samplesOnly<D extends RunDataset>(dataset: D, split: Split, indices: Int32Array): D;
export function samplesOnly(dataset: RunDataset, split: Split, indices: Int32Array): RunDataset {
  const { classes, manifestHash } = dataset;
  const { labels } = dataset.splits[split];
  const chosen = {
    length: indices.length,
    labels: indices.map((index) => labels[index]),
    nameOf: (place: number) => dataset.splits[split].nameOf(indices[place]),
  };
  if (dataset.modality === "image") {
    const { modality, decodeSize, splits } = dataset;
    const read: ImageSource["read"] = (place, target, offset) => splits[split].read(indices[place], target, offset);
    return { modality, classes, manifestHash, decodeSize, splits: { ...splits, [split]: { ...chosen, read } } };
  }
  const { modality, frame, maxLength, splits } = dataset;
  const tokens: TokenSource["tokens"] = (place) => splits[split].tokens(indices[place]);
  return { modality, classes, manifestHash, frame, maxLength, splits: { ...splits, [split]: { ...chosen, tokens } } };
}

/** Of pairs, the data set whose samples are the keys; of others, the data set itself. */
export function keySide(dataset: RunDataset): RunDataset {
  if (dataset.modality === "image") return { ...dataset, splits: dataset.keys ?? dataset.splits };
  return { ...dataset, splits: dataset.keys ?? dataset.splits };
}

/**
 * All of them at once. Parameters as of `featureBatches`.
 * @param kept what was computed before is taken from there, and what is computed is left there; the caller closes it
 */
export async function extractFeatures(
  extractor: Extractor,
  dataset: RunDataset,
  split: Split,
  most: number,
  warn: (message: string) => void,
  kept: KeptRows | null = null,
): Promise<LabelledFeatures> {
  const { dimension } = extractor;
  const source = dataset.splits[split];
  const count = Math.min(most, source.length);
  const features = new Float32Array(count * dimension);
  const labels = new Int32Array(count);
  const take = (rows: Rows, start: number) => {
    features.set(rows.features, start * dimension);
    labels.set(
      rows.samples.map((sample) => source.labels[sample]),
      start,
    );
  };
  if (kept !== null) take(kept.found, 0);
  for await (const batch of featureBatches(extractor, dataset, split, most, warn, kept?.found.samples.length)) {
    take(batch, batch.start);
    await kept?.append(batch);
  }
  return { features, labels, dimension };
}
