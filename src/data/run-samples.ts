/** The samples of a run, as its encoder takes them: the one place where images are told from texts when they are read. */
import type { AugmentationConfig, RunConfig } from "../config/schema.js";
import { dropoutFactors, modalityOf } from "../config/text-encoders.js";
import { UserError } from "../protocol/errors.js";
import { type OnCorrupt, readBatch } from "./batch.js";
import { cacheDecoded } from "./cache.js";
import type { ImageDataset, ImageSource, Split, TextDataset } from "./dataset.js";
import { DRAW, drawViews, type View } from "./draws.js";
import { openDataset } from "./open.js";
import { PairedImages, parted } from "./paired-images.js";
import { drawDropout, viewOf, writeRow } from "./text-views.js";
import { type Frame, openTokenizer } from "./tokenizer.js";
import { type TokenDataset, tokenized, type TokenSource } from "./tokens.js";

export type RunDataset = ImageDataset | TokenDataset;

const MIB = 2 ** 20;

/**
 * @param spec where this machine has the run's data
 * @throws UserError as `openDataset` and `openTokenizer`; `DATA_MODALITY` where the encoder reads the other kind
 */
export async function openRunDataset(spec: string, config: RunConfig): Promise<RunDataset> {
  const { decodeSize } = config.data;
  const dataset = await openDataset(spec, { decodeSize });
  if (dataset.modality !== modalityOf(config)) {
    const [held, read] = dataset.modality === "text" ? ["texts", "images"] : ["images", "texts"];
    throw new UserError(
      "DATA_MODALITY",
      `data ${spec} holds ${held}, and the encoder ${config.model.encoder} reads ${read}: name other data`,
    );
  }
  return dataset.modality === "image" ? dataset : tokenizedFor(config, dataset);
}

/** Texts as the run's encoder takes them. @throws UserError as `openTokenizer` */
export async function tokenizedFor(config: RunConfig, texts: TextDataset): Promise<TokenDataset> {
  const { maxLength, cacheMiB } = config.data;
  return tokenized(texts, await openTokenizer(config), { maxLength, maxBytes: cacheMiB * MIB });
}

/**
 * As `openRunDataset`, where only images will do.
 * @param remedy what to do where they are texts, as a clause
 * @throws UserError also `DATA_NO_PICTURES` where the run is on texts
 */
export async function openRunImages(spec: string, config: RunConfig, remedy: string): Promise<ImageDataset> {
  const dataset = await openRunDataset(spec, config);
  if (dataset.modality === "image") return dataset;
  throw new UserError("DATA_NO_PICTURES", `data ${spec} holds texts, and this is made for pictures alone: ${remedy}`);
}

/** Samples at rest, without augmentation. */
export type SampleValues =
  /** uint8 `[count, S', S', 3]` RGB, S' the decode size */
  | { readonly modality: "image"; readonly pixels: Uint8Array }
  /** int32 `[count, L]` tokens, −1 behind the end */
  | { readonly modality: "text"; readonly ids: Int32Array };

/** @returns the values, and int32 `[count]` the samples that they are really of */
export async function readSamples(
  dataset: RunDataset,
  split: Split,
  indices: Int32Array | readonly number[],
  onCorrupt: OnCorrupt,
): Promise<{ readonly values: SampleValues; readonly samples: Int32Array }> {
  if (dataset.modality === "image") {
    const pixels = new Uint8Array(indices.length * dataset.decodeSize ** 2 * 3);
    const samples = await readBatch(dataset.splits[split], indices, pixels, onCorrupt);
    return { values: { modality: "image", pixels }, samples };
  }
  const { frame, maxLength, splits } = dataset;
  const ids = new Int32Array(indices.length * maxLength);
  indices.forEach((index, place) => {
    writeRow(ids.subarray(place * maxLength, (place + 1) * maxLength), frame, splits[split].tokens(index));
  });
  return { values: { modality: "text", ids }, samples: Int32Array.from(indices) };
}

/** Two views of a rank's samples. Every array lies in shared memory of its own, so that another thread gets it without a copy. */
export type BatchViews =
  | {
      readonly modality: "image";
      /** uint8 `[B, S', S', 3]` RGB, S' the decode size: what the query views are made from */
      readonly images: Uint8Array;
      /** likewise the key views; null: `images` serve for both */
      readonly keyImages: Uint8Array | null;
      /** float32 `[B, DRAW.floats]` */
      readonly drawsQuery: Float32Array;
      /** float32 `[B, DRAW.floats]` */
      readonly drawsKey: Float32Array;
    }
  | { readonly modality: "text"; readonly query: TextViews; readonly key: TextViews };

export interface TextViews {
  /** int32 `[B, L]` tokens, −1 behind the end */
  readonly ids: Int32Array;
  /** float32 `[B, F]` factors of dropout; F is 0 without it */
  readonly dropout: Float32Array;
}

export interface ReadViews<Views extends BatchViews = BatchViews> {
  readonly views: Views;
  /** int32 `[B]`: the samples really there (another's, where one is corrupt) */
  readonly held: readonly number[];
}

/** Reads training samples with both views. A batch is a pure function of (data set, config, epoch, samples). */
export interface ViewReader<Views extends BatchViews = BatchViews> {
  /** training samples */
  readonly length: number;
  readonly labels: Int32Array;
  /** @throws whatever reading a sample throws */
  read(epoch: number, samples: Int32Array): Promise<ReadViews<Views>>;
}

/** @param onCorrupt told of each corrupt sample whenever it is met; may throw */
export function viewReader(dataset: RunDataset, config: RunConfig, onCorrupt: OnCorrupt): ViewReader {
  return dataset.modality === "image" ? imageViews(dataset, config, onCorrupt) : textViews(dataset, config);
}

export type ImageViews = Extract<BatchViews, { modality: "image" }>;

/** Parameters as of `viewReader`. */
export function imageViews(dataset: ImageDataset, config: RunConfig, onCorrupt: OnCorrupt): ViewReader<ImageViews> {
  const { augmentation, seed, data } = config;
  const { decodeSize, imageSize, cacheMiB } = data;
  const imageBytes = decodeSize ** 2 * 3;
  const { splits, keys } = dataset;
  const cached = (source: ImageSource, share: number) => cacheDecoded(source, decodeSize, share * cacheMiB * MIB);
  const queries = cached(splits.train, keys === undefined ? 1 : 1 / 2);
  const pairs = keys === undefined ? null : new PairedImages(queries, cached(keys.train, 1 / 2), imageBytes);
  const readImages = async (samples: Int32Array) => {
    if (pairs === null) {
      const images = new Uint8Array(new SharedArrayBuffer(samples.length * imageBytes));
      return { held: await readBatch(queries, samples, images, onCorrupt), images, keyImages: null };
    }
    const both = new Uint8Array(samples.length * 2 * imageBytes);
    const held = await readBatch(pairs, samples, both, onCorrupt);
    const apart = parted(both, imageBytes);
    return { held, images: apart.queries, keyImages: apart.keys };
  };
  return {
    length: queries.length,
    labels: queries.labels,
    read: async (epoch, samples) => {
      const { held, ...images } = await readImages(samples);
      const draws = (view: View) => {
        const target = new Float32Array(new SharedArrayBuffer(4 * samples.length * DRAW.floats));
        return drawViews(augmentation, seed, epoch, samples, view, imageSize, decodeSize, target);
      };
      return { views: { modality: "image", ...images, drawsQuery: draws(0), drawsKey: draws(1) }, held: [...held] };
    },
  };
}

/** How a view of texts is made. */
export interface TextViewPlan {
  readonly frame: Frame;
  /** L */
  readonly maxLength: number;
  /** F */
  readonly factors: number;
  readonly augmentation: AugmentationConfig["text"];
  readonly seed: number;
  readonly epoch: number;
  readonly view: View;
}

/**
 * One random view of some texts: a pure function of plan, texts and their numbers.
 * @param samples `[B]`
 */
export function textView(source: TokenSource, samples: Int32Array, plan: TextViewPlan): TextViews {
  const { frame, maxLength, factors, augmentation, seed, epoch, view } = plan;
  const ids = new Int32Array(new SharedArrayBuffer(4 * samples.length * maxLength));
  const dropout = new Float32Array(new SharedArrayBuffer(4 * samples.length * factors));
  samples.forEach((sample, place) => {
    const address = { epoch, sample, view };
    const tokens = viewOf(augmentation, seed, address, source.tokens(sample));
    writeRow(ids.subarray(place * maxLength, (place + 1) * maxLength), frame, tokens);
    drawDropout(augmentation.dropout, seed, address, dropout.subarray(place * factors, (place + 1) * factors));
  });
  return { ids, dropout };
}

export type BothTexts = Extract<BatchViews, { modality: "text" }>;

/** Parameters as of `viewReader`. */
export function textViews(dataset: TokenDataset, config: RunConfig): ViewReader<BothTexts> {
  const { splits, keys, frame, maxLength } = dataset;
  const { seed, augmentation } = config;
  const factors = dropoutFactors(config);
  const queries = splits.train;
  const sources = [queries, keys?.train ?? queries] as const;
  const views = (epoch: number, samples: Int32Array, view: View): TextViews =>
    textView(sources[view], samples, { frame, maxLength, factors, augmentation: augmentation.text, seed, epoch, view });
  return {
    length: queries.length,
    labels: queries.labels,
    read: (epoch, samples) => {
      const both = { query: views(epoch, samples, 0), key: views(epoch, samples, 1) };
      return Promise.resolve({ views: { modality: "text", ...both }, held: [...samples] });
    },
  };
}
