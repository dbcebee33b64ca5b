/** A picture of a data set: some samples, each with views as the encoders would see them. Loads the engine. */
import type { RunConfig } from "../config/schema.js";
import { tf, tidied, type Tensor2D, type Tensor4D } from "../engine/index.js";
import { CorruptLimit } from "./corrupt-limit.js";
import type { ImageDataset } from "./dataset.js";
import { drawViews, type View } from "./draws.js";
import { epochPermutation } from "./permutation.js";
import { pictureGrid, readableSide, type Cell, type Grid } from "./picture-grid.js";
import { imageViews } from "./run-samples.js";
import { makeViews, pixelsOfViews, resizeSquare, viewStages } from "./views.js";

export interface SheetShape {
  /** samples: those that a run sees first */
  readonly rows: number;
  /** query and key views of each: those of its first epochs */
  readonly pairs: number;
}

/** The part of a run's config that its views follow from. */
export type ViewConfig = Pick<RunConfig, "seed" | "data" | "augmentation">;

/** Samples as decoded. */
export interface SheetSamples {
  /** `[N]`: their numbers in the training split */
  readonly samples: Int32Array;
  /** uint8 `[N, S', S', 3]` */
  readonly images: Uint8Array;
  /** of pairs, the keys' images; null: `images` serve for both */
  readonly keyImages: Uint8Array | null;
}

/**
 * Samples that a run sees first, as decoded (of a pair, both images), then the query and key view of epoch 0, of epoch 1, ….
 * @throws UserError as `readBatch` and `CorruptLimit`
 */
export async function contactSheet(dataset: ImageDataset, config: RunConfig, shape: SheetShape): Promise<Buffer> {
  const { imageSize, maxCorrupt } = config.data;
  const samples = epochPermutation(config.seed, 0, dataset.splits.train.length).slice(0, shape.rows);
  const limit = new CorruptLimit(maxCorrupt);
  const reader = imageViews(dataset, config, (name) => {
    if (limit.count(name)) process.stderr.write(`tandem: image ${name} cannot be decoded; another stands in\n`);
  });
  const { views } = await reader.read(0, samples);
  const epochs = Array.from({ length: shape.pairs }, (_, epoch) => epoch);
  const { png } = await viewSheet({ samples, ...views }, config, epochs, readableSide(imageSize));
  return png;
}

/**
 * Per row a sample as decoded (of a pair, both images), then its query and key view of each epoch: exactly the views of a run with
 * this config.
 * @param side of a picture in the sheet, in pixels
 */
export function viewSheet(
  { samples, images, keyImages }: SheetSamples,
  config: ViewConfig,
  epochs: readonly number[],
  side: number,
): Promise<Grid> {
  const { decodeSize, imageSize } = config.data;
  const cells = tidied(() => {
    const tensor = (pixels: Uint8Array): Tensor4D =>
      tf.tensor4d(new Float32Array(pixels), [samples.length, decodeSize, decodeSize, 3]);
    const queries = tensor(images);
    const keys = keyImages === null ? queries : tensor(keyImages);
    const decoded = keyImages === null ? [queries] : [queries, keys];
    const views = epochs.flatMap((epoch) => [
      viewsOf(queries, samples, config, epoch, 0),
      viewsOf(keys, samples, config, epoch, 1),
    ]);
    const columns = [...decoded.map((pixels) => resizeSquare(pixels, imageSize)), ...views];
    return columns.flatMap((pictures, column) => cellsOf(column, pictures));
  });
  return pictureGrid(cells, side);
}

function viewsOf(pixels: Tensor4D, samples: Int32Array, config: ViewConfig, epoch: number, view: View): Tensor4D {
  const { augmentation, seed, data } = config;
  const draws = drawViews(augmentation, seed, epoch, samples, view, data.imageSize, data.decodeSize);
  return tf.tidy(() => {
    const rows: Tensor2D = tf.tensor2d(draws, [samples.length, draws.length / samples.length]);
    return pixelsOfViews(makeViews(pixels, rows, data.imageSize, viewStages(augmentation)));
  });
}

/** One cell a row from pixels in [0, 255], `[N, S, S, 3]`. */
function cellsOf(column: number, pictures: Tensor4D): Cell[] {
  const [count, size] = pictures.shape;
  const bytes = Uint8Array.from(pictures.dataSync(), Math.round);
  const length = size * size * 3;
  return Array.from({ length: count }, (_, row) => ({
    pixels: bytes.subarray(row * length, (row + 1) * length),
    ...{ size, column, row },
  }));
}
