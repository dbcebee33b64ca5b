/** An encoder of the user's own, tried out before it is trained: forward, backward, and whether every parameter has a part in it. */
import { tf, type Tensor, type Tensor4D } from "../../engine/index.js";
import { UserError } from "../../protocol/errors.js";
import { Purpose, Stream } from "../../protocol/philox.js";
import type { Encoder } from "../encoder.js";
import { OWN_BATCH, trainingNorm } from "../forward.js";
import { initialParameters } from "../parameters.js";
import { firstLine } from "../../config/load-own-file.js";

const IMAGES = 2;

/**
 * @param ownCount parameters of the backbone: the first so many
 * @throws UserError `ENCODER_…`
 */
export function probe(
  { layout, features }: Pick<Encoder, "layout" | "features">,
  ownCount: number,
  path: string,
  imageSize: number,
): void {
  tf.tidy(() => {
    const specs = layout.parameters.slice(0, ownCount);
    const values = initialParameters(layout, 0);
    const start = specs.map(({ offset, size, shape }) => tf.tensor(values.slice(offset, offset + size), [...shape]));
    const draws = new Stream(0, { purpose: Purpose.parameter, epoch: 0 });
    const pixels = Float32Array.from({ length: IMAGES * imageSize * imageSize * 3 }, () => draws.normal());
    const images: Tensor4D = tf.tensor4d(pixels, [IMAGES, imageSize, imageSize, 3]);
    const context = {
      parameter: <T extends Tensor>(name: string) => start[specs.findIndex((spec) => spec.name === name)] as T,
      normalise: trainingNorm(OWN_BATCH, () => undefined),
    };
    const { grads } = gradientsOf(() => tf.sum(tf.square(features(context, images))), start, path);
    const result = features(context, images);
    if (!tf.isFinite(result).all().dataSync()[0])
      throw new UserError(
        "ENCODER_NOT_FINITE",
        `the encoder ${path} gives NaN or infinite features with the weights it starts with`,
      );
    const idle = specs.find(({ frozen }, index) => frozen !== true && grads[index] === undefined);
    if (idle !== undefined) {
      throw new UserError(
        "ENCODER_IDLE",
        `the features of the encoder ${path} do not depend on ${idle.name}: use it, declare it frozen, or leave it out`,
      );
    }
  });
}

/** Gradients, undefined where the value does not depend on a tensor. */
function gradientsOf(
  value: () => Tensor,
  of: Tensor[],
  path: string,
): { readonly grads: readonly (Tensor | undefined)[] } {
  try {
    return tf.engine().gradients(value, of, undefined, true);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError("ENCODER_FAILS", `the encoder ${path} has no gradient: ${firstLine(cause)}`, { cause });
  }
}
