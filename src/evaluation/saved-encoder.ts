/** A backbone at rest as a TensorFlow SavedModel. */
import { normaliseChannels } from "../data/views.js";
import { batchSavedModel, tf, type Tensor4D } from "../engine/index.js";
import type { Encoder } from "../models/index.js";
import type { EncoderState } from "../models/pytorch-layout.js";
import { embed, frozenEncoder } from "./features.js";

/**
 * `serving_default` takes `images`, float32 `[N, S, S, 3]` pixels in [0, 255], and gives `features`, float32
 * `[N, featureDim]`; channels are normalised within.
 * @param imageSize S
 * @returns the bytes of a `saved_model.pb`, weights and all
 */
export function savedEncoder(encoder: Encoder, state: EncoderState, imageSize: number): Uint8Array {
  return batchSavedModel(
    (images) => tf.tidy(() => embed(frozenEncoder(encoder, state), normaliseChannels(images as Tensor4D), "features")),
    [imageSize, imageSize, 3],
    { input: "images", output: "features" },
  );
}
