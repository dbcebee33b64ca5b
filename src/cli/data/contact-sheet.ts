/** A picture of a data set: some samples, each with views as the encoders would see them. Loads the engine. */
import sharp from "sharp";
import type { RunConfig } from "../../config/index.js";
import {
  CorruptLimit,
  drawViews,
  epochPermutation,
  readBatch,
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
 * A PNG: per row a sample as decoded, then its query and key view of epoch 0, of epoch 1, …: exactly the views of a run with this config.
 * @throws UserError as `readBatch` and `CorruptLimit`
 */
export async function contactSheet(dataset: ImageDataset, config: RunConfig, shape: SheetShape): Promise<Buffer> {
  const { decodeSize, imageSize, maxCorrupt } = config.data;
  const { length } = dataset.splits.train;
  const samples = [...epochPermutation(config.seed, 0, length).subarray(0, shape.rows)];
  const images = new Uint8Array(samples.length * decodeSize ** 2 * 3);
  const limit = new CorruptLimit(maxCorrupt);
  await readBatch(dataset.splits.train, samples, images, (name) => {
    if (limit.count(name)) process.stderr.write(`tandem: image ${name} cannot be decoded; another stands in\n`);
  });
  const pixels = tf.tensor4d(new Float32Array(images), [samples.length, decodeSize, decodeSize, 3]);
  const cells = cellsOf(0, resizeSquare(pixels, imageSize));
  for (let epoch = 0; epoch < shape.pairs; epoch++) {
    for (const view of [0, 1] as const) {
      cells.push(...cellsOf(1 + 2 * epoch + view, viewsOf(pixels, samples, config, epoch, view)));
    }
  }
  return compose(cells, imageSize, 1 + 2 * shape.pairs, samples.length);
}

function viewsOf(pixels: Tensor4D, samples: number[], config: RunConfig, epoch: number, view: View): Tensor4D {
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
