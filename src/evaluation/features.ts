/** Backbone features of a query encoder at rest: running batch-norm statistics, no augmentation, no projection head. */
import { normaliseChannels, resizeSquare } from "../data/views.js";
import { tf, type Tensor, type Tensor1D } from "../engine/index.js";
import { evaluationNorm, type Encoder } from "../models/index.js";
import { forwardContext } from "../objectives/index.js";

export interface FrozenEncoder {
  readonly encoder: Encoder;
  /** θq, one tensor a parameter in the layout's order */
  readonly parameters: readonly Tensor[];
  /** running statistics by name */
  readonly buffers: ReadonlyMap<string, Tensor1D>;
}

export interface ImageSizes {
  /** S', side of the decoded images in pixels */
  readonly decodeSize: number;
  /** S, side that the encoder sees in pixels */
  readonly imageSize: number;
}

/**
 * @param images uint8 `[count, S', S', 3]`
 * @returns float32 `[count, featureDim]`
 */
export function backboneFeatures(frozen: FrozenEncoder, images: Uint8Array, sizes: ImageSizes): Float32Array {
  const { encoder, parameters, buffers } = frozen;
  const { decodeSize, imageSize } = sizes;
  const count = images.length / (decodeSize * decodeSize * 3);
  return tf.tidy(() => {
    const norm = evaluationNorm((name) => {
      const buffer = buffers.get(name);
      if (buffer === undefined) throw new Error(`the encoder has no buffer ${name}`);
      return buffer;
    });
    const pixels = tf.tensor4d(new Float32Array(images), [count, decodeSize, decodeSize, 3]);
    const views = normaliseChannels(resizeSquare(pixels, imageSize));
    return encoder.features(forwardContext(encoder, parameters, norm), views).dataSync() as Float32Array;
  });
}
