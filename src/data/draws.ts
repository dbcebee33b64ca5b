/**
 * The random draws of a view, as the few numbers that the device needs to make it. Each stage has its own fixed number of words in the
 * sample's stream, read whether or not the stage is on: switching one off leaves the others' draws as they are.
 */
import type { ImageAugmentation } from "../config/schema.js";
import { Purpose, Stream } from "../protocol/philox.js";
import { type ColourJitter, colourTransform, NO_JITTER } from "./colour.js";
import { type CropBox, viewTransform } from "./geometry.js";

/** Offsets of each part in a sample's row of draws, and the row's length, in floats. */
export const DRAW = {
  /** 8: rows 1 and 2 of the projective map from an output pixel to the input's, `[a0, a1, a2, b0, b1, b2, 0, 0]` */
  transform: 0,
  /** 9: matrix `A`, row by row, of `rgb' = rgb·A` */
  colour: 8,
  /** 3: `v` of the gray that is added to each channel, `mean(rgb)·v`: what contrast pulls towards */
  contrast: 17,
  /** 1: `1/(2σ²)` of the blur in pixels⁻² */
  blur: 20,
  floats: 21,
} as const;
export const DRAW_FLOATS = DRAW.floats;

/** `1/(2σ²)` of no blur: exp(−d²·this) is exactly 0 in float32 for every distance but 0, and stays finite up to 1e4 pixels. */
export const NO_BLUR = 1e30;

/** 0: what the query encoder sees; 1: the key encoder. */
export type View = 0 | 1;

/** Attempts at a crop that lies within the image, and the range of its width over height; torchvision's. */
const CROP_ATTEMPTS = 10;
const LEAST_ASPECT = 3 / 4;
const GREATEST_ASPECT = 4 / 3;

/**
 * Draws of a batch: float32 `[B, DRAW.floats]`, one row a sample. A pure function of its arguments.
 * @param samples `[B]`, sample indices in the manifest
 * @param imageSize side of the view in pixels
 * @param decodeSize side of the decoded image in pixels
 * @param target where to write, if there is a place already; `[B, DRAW.floats]`
 */
export function drawViews(
  config: ImageAugmentation,
  seed: number,
  epoch: number,
  samples: Int32Array | readonly number[],
  view: View,
  imageSize: number,
  decodeSize: number,
  target: Float32Array = new Float32Array(samples.length * DRAW.floats),
): Float32Array {
  for (let place = 0; place < samples.length; place++) {
    const stream = new Stream(seed, { purpose: Purpose.augmentation, epoch, sample: samples[place], view });
    const box = drawCrop(stream, config.crop, decodeSize);
    const flipped = stream.chance(config.flip.probability);
    const radians = drawRotation(stream, config.rotation);
    const jitter = drawJitter(stream, config.jitter);
    const grayscale = stream.chance(config.grayscale.probability);
    const { matrix, meanWeights } = colourTransform(jitter, grayscale);
    const row = place * DRAW.floats;
    target.set(viewTransform(box, flipped, radians, imageSize), row + DRAW.transform);
    target.set(matrix, row + DRAW.colour);
    target.set(meanWeights, row + DRAW.contrast);
    target[row + DRAW.blur] = drawBlur(stream, config.blur);
  }
  return target;
}

/**
 * torchvision's RandomResizedCrop on a square, with boxes not rounded to pixels: share of the area uniform, aspect log-uniform, the
 * first attempt that fits, at a uniform place. No attempt fits: the whole image, whose aspect is allowed. 23 words.
 */
function drawCrop(stream: Stream, config: ImageAugmentation["crop"], side: number): CropBox {
  const applied = stream.chance(config.probability);
  let size: readonly [number, number] | null = null;
  for (let attempt = 0; attempt < CROP_ATTEMPTS; attempt++) {
    const area = stream.uniform(config.minScale, config.maxScale) * side * side;
    const aspect = Math.exp(stream.uniform(Math.log(LEAST_ASPECT), Math.log(GREATEST_ASPECT)));
    const width = Math.sqrt(area * aspect);
    const height = Math.sqrt(area / aspect);
    if (size === null && width <= side && height <= side) size = [width, height];
  }
  const acrossShare = stream.uniform();
  const downShare = stream.uniform();
  const [width, height] = applied && size !== null ? size : [side, side];
  return { left: acrossShare * (side - width), top: downShare * (side - height), width, height };
}

/** Anticlockwise, in radians. 2 words. */
function drawRotation(stream: Stream, config: ImageAugmentation["rotation"]): number {
  const applied = stream.chance(config.probability);
  const degrees = stream.uniform(-config.degrees, config.degrees);
  return applied ? (degrees * Math.PI) / 180 : 0;
}

/** 5 words. */
function drawJitter(stream: Stream, config: ImageAugmentation["jitter"]): ColourJitter {
  const applied = stream.chance(config.probability);
  const jitter = {
    brightness: stream.uniform(1 - config.brightness, 1 + config.brightness),
    contrast: stream.uniform(1 - config.contrast, 1 + config.contrast),
    saturation: stream.uniform(1 - config.saturation, 1 + config.saturation),
    hue: stream.uniform(-config.hue, config.hue),
  };
  return applied ? jitter : NO_JITTER;
}

/** `1/(2σ²)`. 2 words. */
function drawBlur(stream: Stream, config: ImageAugmentation["blur"]): number {
  const applied = stream.chance(config.probability);
  const sigma = stream.uniform(config.minSigma, config.maxSigma);
  return applied ? 1 / (2 * sigma * sigma) : NO_BLUR;
}
