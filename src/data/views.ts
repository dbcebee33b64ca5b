/** Augmentation on the device: a batch of decoded images and its draws become a batch of normalised views. */
import type { AugmentationConfig } from "../config/schema.js";
import { preciseMatMul, tf, transformImages, type Tensor, type Tensor2D, type Tensor4D } from "../engine/index.js";
import { DRAW } from "./draws.js";

/** ImageNet's channel means and deviations of pixels in [0, 1], as the papers' recipes use them. */
const CHANNEL_MEAN = [0.485, 0.456, 0.406];
const CHANNEL_DEVIATION = [0.229, 0.224, 0.225];

/** Which stages the config can ever need; what it cannot is left out of the computation. */
export interface ViewStages {
  readonly colour: boolean;
  readonly blur: boolean;
}

export function viewStages(config: AugmentationConfig): ViewStages {
  return {
    colour: config.jitter.probability > 0 || config.grayscale.probability > 0,
    blur: config.blur.probability > 0,
  };
}

/**
 * @param images `[N, S', S', 3]` float32 pixels in [0, 255]
 * @param draws `[N, DRAW.floats]`, one row an image
 * @param size S, side of the views
 * @returns `[N, S, S, 3]` float32, normalised by channel
 */
export function makeViews(images: Tensor4D, draws: Tensor2D, size: number, stages: ViewStages): Tensor4D {
  return tf.tidy(() => {
    const count = images.shape[0];
    const drawn = (offset: number, length: number) => tf.slice(draws, [0, offset], [count, length]);
    let views = transformImages(images, drawn(DRAW.transform, 8), size);
    if (stages.colour) {
      const pixels = tf.reshape(views, [count, size * size, 3]);
      const matrix = tf.reshape(drawn(DRAW.colour, 9), [count, 3, 3]);
      const mean = tf.mean(pixels, 1);
      const contrast = tf.sum(tf.mul(mean, drawn(DRAW.contrast, 3)), 1);
      const coloured = tf.add(preciseMatMul(pixels, matrix), tf.reshape(contrast, [count, 1, 1]));
      views = tf.reshape(tf.clipByValue(coloured, 0, 255), [count, size, size, 3]);
    }
    if (stages.blur) views = blur(views, drawn(DRAW.blur, 1));
    return normaliseChannels(views);
  });
}

/** `(x / 255 − mean) / deviation` by channel. `[N, S, S, 3]` */
export function normaliseChannels(pixels: Tensor4D): Tensor4D {
  return tf.tidy(() => {
    const factor = CHANNEL_DEVIATION.map((deviation) => 1 / (255 * deviation));
    const shift = CHANNEL_MEAN.map((mean, channel) => mean / CHANNEL_DEVIATION[channel]);
    return tf.sub(tf.mul(pixels, factor), shift);
  });
}

/**
 * Gaussian blur as a matrix product along each axis, with one kernel matrix an image; rows are normalised, so edges
 * keep their brightness.
 * @param views `[N, S, S, 3]`
 * @param sharpness `[N, 1]`: 1/(2σ²) in pixels⁻²
 */
function blur(views: Tensor4D, sharpness: Tensor2D): Tensor4D {
  const [count, size] = views.shape;
  const positions = tf.range(0, size);
  const distance = tf.sub(tf.expandDims(positions, 1), tf.expandDims(positions, 0));
  const kernel = tf.exp(tf.neg(tf.mul(tf.square(distance), tf.reshape(sharpness, [count, 1, 1]))));
  const rows = tf.div(kernel, tf.sum(kernel, 2, true));
  const vertical = preciseMatMul<Tensor>(rows, tf.reshape(views, [count, size, size * 3]));
  return preciseMatMul(tf.reshape(rows, [count, 1, size, size]), tf.reshape(vertical, [count, size, size, 3]));
}

/** Bilinear resize with half-pixel centres, as PyTorch's `interpolate`; the input itself where the size fits. */
export function resizeSquare(pixels: Tensor4D, size: number): Tensor4D {
  return pixels.shape[1] === size ? pixels : tf.image.resizeBilinear(pixels, [size, size], false, true);
}
