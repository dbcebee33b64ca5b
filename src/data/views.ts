/** Augmentation on the device: a batch of decoded images and its draws become a batch of normalised views. */
import type { ImageAugmentation } from "../config/schema.js";
import { preciseMatMul, tf, transformImages, type Tensor, type Tensor2D, type Tensor4D } from "../engine/index.js";
import { DRAW } from "./draws.js";

/** ImageNet's channel means and deviations of pixels in [0, 1], as the papers' recipes use them. */
const CHANNEL_MEAN = [0.485, 0.456, 0.406];
const CHANNEL_DEVIATION = [0.229, 0.224, 0.225];

/**
 * Side of decoded images in pixels up to which products of matrices resample faster than reading pixel by pixel (at 32:
 * 2 ms instead of 4 for 256 images); their cost grows with the side.
 */
const MOST_SEPARABLE = 64;

/** Which stages the config can ever need; what it cannot is left out of the computation. */
export interface ViewStages {
  readonly rotation: boolean;
  readonly colour: boolean;
  readonly blur: boolean;
}

export function viewStages(config: ImageAugmentation): ViewStages {
  return {
    rotation: config.rotation.probability > 0,
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
    const transforms = drawn(DRAW.transform, 8);
    const isSeparable = !stages.rotation && images.shape[1] <= MOST_SEPARABLE;
    let views = isSeparable ? resampleAxes(images, transforms, size) : transformImages(images, transforms, size);
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

/**
 * `transformImages` where no axis mixes with the other: bilinear resampling as one matrix product along each axis.
 * @param transforms `[N, 8]`: output pixel (x, y) reads input pixel (a0·x + a2, b1·y + b2), which lies within the image
 */
function resampleAxes(images: Tensor4D, transforms: Tensor2D, size: number): Tensor4D {
  const [count, side] = images.shape;
  const positions = tf.range(0, size);
  const pixels = tf.range(0, side);
  /** `[N, S, S']`: what each pixel of the input weighs in each of the output */
  const weights = (scale: number, offset: number): Tensor => {
    const column = (index: number) => tf.slice(transforms, [0, index], [count, 1]);
    const centres = tf.clipByValue(tf.add(tf.mul(column(scale), positions), column(offset)), 0, side - 1);
    return tf.relu(tf.sub(1, tf.abs(tf.sub(tf.expandDims(centres, 2), pixels))));
  };
  const alongHeight = preciseMatMul(weights(4, 5), tf.reshape(images, [count, side, side * 3]));
  const turned = tf.transpose(tf.reshape(alongHeight, [count, size, side, 3]), [0, 2, 1, 3]);
  const alongWidth = preciseMatMul(weights(0, 2), tf.reshape(turned, [count, side, size * 3]));
  return tf.transpose(tf.reshape(alongWidth, [count, size, size, 3]), [0, 2, 1, 3]);
}

/** `(x / 255 − mean) / deviation` by channel. `[N, S, S, 3]` */
export function normaliseChannels(pixels: Tensor4D): Tensor4D {
  return tf.tidy(() => {
    const factor = CHANNEL_DEVIATION.map((deviation) => 1 / (255 * deviation));
    const shift = CHANNEL_MEAN.map((mean, channel) => mean / CHANNEL_DEVIATION[channel]);
    return tf.sub(tf.mul(pixels, factor), shift);
  });
}

/** `normaliseChannels` undone, for people to look at: pixels in [0, 255]. `[N, S, S, 3]` */
export function pixelsOfViews(views: Tensor4D): Tensor4D {
  return tf.tidy(() => {
    const deviation = CHANNEL_DEVIATION.map((value) => 255 * value);
    const mean = CHANNEL_MEAN.map((value) => 255 * value);
    return tf.clipByValue(tf.add(tf.mul(views, deviation), mean), 0, 255);
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
