/** A picture of a data set: some samples, each with views as the encoders would see them. Loads the engine. */
import sharp from "sharp";
import type { RunConfig } from "../../config/index.js";
import {
  CorruptLimit,
  drawViews,
  epochPermutation,
  imageViews,
  type ImageDataset,
  type View,
} from "../../data/index.js";
import { makeViews, pixelsOfViews, resizeSquare, viewStages } from "../../data/views.js";
import { tf, type Tensor2D, type Tensor4D } from "../../engine/index.js";

export interface SheetShape {
  /** samples: those that a run sees first */
  readonly rows: number;
  /** query and key views of each: those of its first epochs */
  readonly pairs: number;
}

/** Small views are enlarged by a whole factor up to about this side, so that one can see them. */
const READABLE_SIDE = 96;
/** Between cells, in pixels. */
const GAP = 4;
const BACKGROUND = { r: 32, g: 32, b: 32 };

/** One cell: RGB bytes `[S, S, 3]`. */
interface Cell {
  readonly pixels: Uint8Array;
  readonly column: number;
  readonly row: number;
}

/**
 * A PNG: per row a sample as decoded (of a pair, both images), then its query and key view of epoch 0, of epoch 1, …: exactly the
 * views of a run with this config.
 * @throws UserError as `readBatch` and `CorruptLimit`
 */
export async function contactSheet(dataset: ImageDataset, config: RunConfig, shape: SheetShape): Promise<Buffer> {
  const { decodeSize, imageSize, maxCorrupt } = config.data;
  const samples = epochPermutation(config.seed, 0, dataset.splits.train.length).slice(0, shape.rows);
  const limit = new CorruptLimit(maxCorrupt);
  const reader = imageViews(dataset, config, (name) => {
    if (limit.count(name)) process.stderr.write(`tandem: image ${name} cannot be decoded; another stands in\n`);
  });
  const { images, keyImages } = (await reader.read(0, samples)).views;
  const tensor = (pixels: Uint8Array): Tensor4D =>
    tf.tensor4d(new Float32Array(pixels), [samples.length, decodeSize, decodeSize, 3]);
  const queries = tensor(images);
  const keys = keyImages === null ? queries : tensor(keyImages);
  const pictures = keyImages === null ? [queries] : [queries, keys];
  const cells = pictures.flatMap((pixels, column) => cellsOf(column, resizeSquare(pixels, imageSize)));
  for (let epoch = 0; epoch < shape.pairs; epoch++) {
    for (const view of [0, 1] as const) {
      const views = viewsOf(view === 0 ? queries : keys, samples, config, epoch, view);
      cells.push(...cellsOf(pictures.length + 2 * epoch + view, views));
    }
  }
  return compose(cells, imageSize, pictures.length + 2 * shape.pairs, samples.length);
}

function viewsOf(pixels: Tensor4D, samples: Int32Array, config: RunConfig, epoch: number, view: View): Tensor4D {
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
    column,
    row,
  }));
}

async function compose(cells: readonly Cell[], size: number, columns: number, rows: number): Promise<Buffer> {
  const side = size * Math.max(1, Math.round(READABLE_SIDE / size));
  const extent = (count: number) => count * (side + GAP) + GAP;
  const layers = await Promise.all(
    cells.map(async ({ pixels, column, row }) => ({
      input: await sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
        .resize(side, side, { kernel: "nearest" })
        .png()
        .toBuffer(),
      left: extent(column),
      top: extent(row),
    })),
  );
  return sharp({ create: { width: extent(columns), height: extent(rows), channels: 3, background: BACKGROUND } })
    .composite(layers)
    .png()
    .toBuffer();
}
