/** The forward pass of a Vision Transformer, in timm's arithmetic. */
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor3D, type Tensor4D } from "../engine/index.js";
import type { Encoder } from "./encoder.js";
import type { ForwardContext } from "./forward.js";
import { applyHeads } from "./head-forward.js";
import { normaliseTokens, transformerBlock } from "./transformer.js";
import {
  visionTransformerArchitecture,
  type TransformerSize,
  type VisionTransformerOptions,
} from "./vit-architecture.js";

export function visionTransformer(size: TransformerSize, options: VisionTransformerOptions): Encoder {
  const { layout, featureDim, grid, patchSize, ...heads } = visionTransformerArchitecture(size, options);
  const { width, depth } = size;

  /** `[N, S, S, 3]` → `[N, grid², D]`: a convolution whose stride is its kernel's side is a product with each patch. */
  const embedPatches = (context: ForwardContext, images: Tensor4D): Tensor3D => {
    const [count] = images.shape;
    const filter = context.parameter<Tensor4D>("patch_embed.proj.weight");
    const values = patchSize * patchSize * 3;
    const cells = tf.transpose(tf.reshape(images, [count, grid, patchSize, grid, patchSize * 3]), [0, 1, 3, 2, 4]);
    const product = tf.matMul<Tensor2D>(tf.reshape(cells, [-1, values]), tf.reshape(filter, [values, width]));
    const patches = tf.add(product, context.parameter<Tensor1D>("patch_embed.proj.bias"));
    return tf.reshape(patches, [count, grid * grid, width]);
  };

  return {
    layout,
    featureDim,
    features: (context, images: Tensor4D) => {
      const [count] = images.shape;
      let x = tf.tidy(() => {
        const patches = embedPatches(context, images);
        // One zero a sample, in a graph for batches of any size too.
        const zeros = tf.zerosLike(tf.slice(patches, [0, 0, 0], [count, 1, 1]));
        const token = tf.add<Tensor>(context.parameter("cls_token"), zeros) as Tensor3D;
        const tokens = tf.concat([token, patches], 1);
        return tf.add<Tensor3D>(tokens, context.parameter("pos_embed"));
      });
      for (let index = 0; index < depth; index++) {
        const input = x;
        x = tf.tidy(() => transformerBlock(context, `blocks.${String(index)}`, input, { heads: size.heads }));
        input.dispose();
      }
      const token: Tensor2D = tf.reshape(tf.slice(x, [0, 0, 0], [count, 1, width]), [count, width]);
      return normaliseTokens(context, "norm", token);
    },
    ...applyHeads(heads),
  };
}
