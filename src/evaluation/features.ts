/** Backbone features of a query encoder at rest: running batch-norm statistics, no augmentation, no projection head. */
import type { SampleValues } from "../data/run-samples.js";
import { normaliseChannels, resizeSquare } from "../data/views.js";
import { tf, type Tensor, type Tensor1D, type Tensor2D } from "../engine/index.js";
import { evaluationNorm, textRows, type Encoder, type Views } from "../models/index.js";
import type { EncoderState } from "../models/pytorch-layout.js";
import { forwardContext, normalise } from "../objectives/index.js";

export interface FrozenEncoder {
  readonly encoder: Encoder;
  /** θq, one tensor a parameter in the layout's order */
  readonly parameters: readonly Tensor[];
  /** running statistics by name */
  readonly buffers: ReadonlyMap<string, Tensor1D>;
}

/** How samples come to the encoder. */
export interface SampleSizes {
  /** S', side of the decoded images in pixels */
  readonly decodeSize: number;
  /** S, side that the encoder sees in pixels */
  readonly imageSize: number;
  /** L, most tokens of a text */
  readonly maxLength: number;
}

/** Copies an encoder's state to the device; it stays there. */
export function frozenEncoder(encoder: Encoder, { parameters, buffers }: EncoderState): FrozenEncoder {
  const { layout } = encoder;
  return {
    encoder,
    parameters: layout.parameters.map(({ offset, size, shape }) =>
      tf.tensor(parameters.slice(offset, offset + size), [...shape]),
    ),
    buffers: new Map(
      layout.buffers.map(({ name, offset, size }) => [name, tf.tensor1d(buffers.slice(offset, offset + size))]),
    ),
  };
}

/** features: of the backbone; projection: behind the head, of unit length, as methods contrast them. */
export type Embedding = "features" | "projection";

/** @returns float32 `[count, featureDim]` */
export function backboneFeatures(frozen: FrozenEncoder, samples: SampleValues, sizes: SampleSizes): Float32Array {
  return embeddings(frozen, samples, sizes, "features");
}

/** @returns float32 `[count, featureDim]`, or `[count, embeddingDim]` */
export function embeddings(
  frozen: FrozenEncoder,
  samples: SampleValues,
  sizes: SampleSizes,
  what: Embedding,
): Float32Array {
  return tf.tidy(() => embed(frozen, viewsAtRest(samples, sizes), what).dataSync() as Float32Array);
}

function viewsAtRest(samples: SampleValues, { decodeSize, imageSize, maxLength }: SampleSizes): Views {
  if (samples.modality === "text")
    return textRows(tf.tensor2d(samples.ids, [samples.ids.length / maxLength, maxLength], "int32"), null);
  const count = samples.pixels.length / (decodeSize * decodeSize * 3);
  const pixels = tf.tensor4d(new Float32Array(samples.pixels), [count, decodeSize, decodeSize, 3]);
  return normaliseChannels(resizeSquare(pixels, imageSize));
}

/** @returns `[N, featureDim]`, or `[N, embeddingDim]` */
export function embed({ encoder, parameters, buffers }: FrozenEncoder, views: Views, what: Embedding): Tensor2D {
  const norm = evaluationNorm((name) => {
    const buffer = buffers.get(name);
    if (buffer === undefined) throw new Error(`the encoder has no buffer ${name}`);
    return buffer;
  });
  const context = forwardContext(encoder, parameters, norm);
  const features = encoder.features(context, views);
  return what === "features" ? features : normalise(encoder.project(context, features));
}
