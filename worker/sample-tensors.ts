/** A rank's samples as tensors, and from these the views: the one place where the worker tells images from texts. */
import type { RunConfig } from "../src/config/schema.js";
import { dropoutFactors, holdsPairs, modalityOf } from "../src/config/text-encoders.js";
import { DRAW } from "../src/data/draws.js";
import type { Batch } from "../src/data/loader.js";
import type { TextViews } from "../src/data/run-samples.js";
import { makeViews, viewStages } from "../src/data/views.js";
import { tf, type Tensor2D, type Tensor4D } from "../src/engine/index.js";
import { textRows, type Views } from "../src/models/index.js";

/** (Types, since tfjs takes no interface for a container of tensors.) */
export type ImageTensors = {
  /** `[B, S', S', 3]` decoded images, 0 to 255: what the query views are made from */
  readonly pixels: Tensor4D;
  /** likewise the key views; null: `pixels` serve for both */
  readonly pixelsKey: Tensor4D | null;
  /** `[B, DRAW.floats]` each: how the views are made */
  readonly drawsQuery: Tensor2D;
  readonly drawsKey: Tensor2D;
};

export type TextTensors = {
  /** int32 `[B, L]` each: tokens, −1 behind the end */
  readonly idsQuery: Tensor2D;
  readonly idsKey: Tensor2D;
  /** `[B, F]` each: factors of dropout; null: none */
  readonly dropoutQuery: Tensor2D | null;
  readonly dropoutKey: Tensor2D | null;
};

export type SampleTensors = ImageTensors | TextTensors;

export interface SampleKind {
  /** All zero, to record the step with. */
  example(): SampleTensors;
  of(batch: Batch): SampleTensors;
  /** @param samples as `example` and `of` give them */
  views(samples: SampleTensors): { readonly queryViews: Views; readonly keyViews: Views };
}

export function sampleKind(config: RunConfig): SampleKind {
  return modalityOf(config) === "image" ? images(config) : texts(config);
}

function images({ data, parallel: { batchSize }, augmentation }: RunConfig): SampleKind {
  const { decodeSize, imageSize } = data;
  const arePairs = holdsPairs(data.spec);
  const shape: [number, number, number, number] = [batchSize, decodeSize, decodeSize, 3];
  const stages = viewStages(augmentation);
  const draws = (values: Float32Array) => tf.tensor2d(values.slice(), [batchSize, DRAW.floats]);
  return {
    example: () => ({
      pixels: tf.zeros(shape),
      pixelsKey: arePairs ? tf.zeros(shape) : null,
      drawsQuery: tf.zeros([batchSize, DRAW.floats]),
      drawsKey: tf.zeros([batchSize, DRAW.floats]),
    }),
    of: (batch) => {
      if (batch.modality !== "image" || (batch.keyImages !== null) !== arePairs) throw mismatch();
      const { images, keyImages } = batch;
      return {
        pixels: tf.tensor4d(new Float32Array(images), shape),
        pixelsKey: keyImages === null ? null : tf.tensor4d(new Float32Array(keyImages), shape),
        drawsQuery: draws(batch.drawsQuery),
        drawsKey: draws(batch.drawsKey),
      };
    },
    views: (samples) => {
      if (!("pixels" in samples)) throw mismatch();
      const { pixels, pixelsKey, drawsQuery, drawsKey } = samples;
      return {
        queryViews: makeViews(pixels, drawsQuery, imageSize, stages),
        keyViews: makeViews(pixelsKey ?? pixels, drawsKey, imageSize, stages),
      };
    },
  };
}

function texts(config: RunConfig): SampleKind {
  const { maxLength } = config.data;
  const { batchSize } = config.parallel;
  const factors = dropoutFactors(config);
  const idsOf = ({ ids }: TextViews): Tensor2D => tf.tensor2d(ids.slice(), [batchSize, maxLength], "int32");
  const dropoutOf = ({ dropout }: TextViews): Tensor2D | null =>
    factors === 0 ? null : tf.tensor2d(dropout.slice(), [batchSize, factors]);
  const noFactors = (): Tensor2D | null => (factors === 0 ? null : tf.zeros([batchSize, factors]));
  return {
    example: () => ({
      idsQuery: tf.zeros([batchSize, maxLength], "int32"),
      idsKey: tf.zeros([batchSize, maxLength], "int32"),
      dropoutQuery: noFactors(),
      dropoutKey: noFactors(),
    }),
    of: (batch) => {
      if (batch.modality !== "text") throw mismatch();
      const { query, key } = batch;
      return {
        idsQuery: idsOf(query),
        idsKey: idsOf(key),
        dropoutQuery: dropoutOf(query),
        dropoutKey: dropoutOf(key),
      };
    },
    views: (samples) => {
      if (!("idsQuery" in samples)) throw mismatch();
      const { idsQuery, idsKey, dropoutQuery, dropoutKey } = samples;
      return { queryViews: textRows(idsQuery, dropoutQuery), keyViews: textRows(idsKey, dropoutKey) };
    },
  };
}

function mismatch(): Error {
  return new Error("a step was given samples of another kind than its encoder reads");
}
