/** The forward pass of a Transformer that reads text. */
import { embedding, tf, type Tensor1D, type Tensor2D, type Tensor3D } from "../engine/index.js";
import type { Encoder } from "./encoder.js";
import type { ForwardContext } from "./forward.js";
import { applyHeads } from "./head-forward.js";
import { textTransformerArchitecture, type TextTransformerOptions } from "./text-architecture.js";
import { normaliseTokens, transformerBlock } from "./transformer.js";
import type { TransformerSize } from "./vit-architecture.js";

/** (A type, since tfjs takes no interface for a container of tensors.) */
export type Texts = {
  /** int32 `[N, L]`: tokens, each below the vocabulary's size */
  readonly ids: Tensor2D;
  /** float32 `[N, L]`: 1 for a token, 0 for padding; each text has a token */
  readonly mask: Tensor2D;
  /**
   * float32 `[N, (1 + 2·depth)·D]`: factors of dropout, 0 or 1/(1 − p), for each place where it acts: behind the embedding, and
   * behind attention and MLP of each block. A text's tokens share them (as Gal and Ghahramani 2016 have it in recurrent
   * networks), so that they are few enough to be drawn as all else is. Null: no dropout
   */
  readonly dropout: Tensor2D | null;
};

export interface TextTransformer extends Omit<Encoder, "features"> {
  /** → `[N, featureDim]` */
  features(context: ForwardContext, texts: Texts): Tensor2D;
}

/** What is added to a logit of padding: behind the softmax its weight is exactly 0. */
const EXCLUDED = 1e9;

export function textTransformer(size: TransformerSize, options: TextTransformerOptions): TextTransformer {
  const { layout, featureDim, ...heads } = textTransformerArchitecture(size, options);
  const { width, depth } = size;

  const embed = (context: ForwardContext, ids: Tensor2D): Tensor3D => {
    const [count, length] = ids.shape;
    const flat: Tensor1D = tf.reshape(ids, [count * length]);
    const tokens = tf.reshape(embedding(context.parameter<Tensor2D>("token_embed.weight"), flat), [
      count,
      length,
      width,
    ]);
    const places = tf.slice(context.parameter<Tensor3D>("pos_embed"), [0, 0, 0], [1, length, width]);
    return tf.add<Tensor3D>(tokens, places);
  };

  /** @param tokens `[N, L, D]` */
  const pool = (context: ForwardContext, tokens: Tensor3D, mask: Tensor2D): Tensor2D => {
    const [count, length] = mask.shape;
    if (options.pooling === "first") {
      const first: Tensor2D = tf.reshape(tf.slice(tokens, [0, 0, 0], [count, 1, width]), [count, width]);
      return normaliseTokens(context, "norm", first);
    }
    const flat: Tensor2D = tf.reshape(tokens, [count * length, width]);
    const normal = tf.reshape(normaliseTokens(context, "norm", flat), [count, length, width]);
    const present = tf.expandDims(mask, 2);
    return tf.div(tf.sum(tf.mul(normal, present), 1), tf.sum(present, 1));
  };

  return {
    layout,
    featureDim,
    features: (context, { ids, mask, dropout }) =>
      tf.tidy(() => {
        const [count, length] = ids.shape;
        /** @param place counts from the embedding on */
        const drop = (x: Tensor2D, place: number): Tensor2D => {
          if (dropout === null) return x;
          const factors = tf.reshape(tf.slice(dropout, [0, place * width], [count, width]), [count, 1, width]);
          return tf.reshape(tf.mul(tf.reshape(x, [count, length, width]), factors), [count * length, width]);
        };
        const bias = tf.reshape(tf.mul(tf.sub(mask, 1), EXCLUDED), [count, 1, 1, length]);
        const embedded: Tensor2D = tf.reshape(embed(context, ids), [count * length, width]);
        let x: Tensor3D = tf.reshape(drop(embedded, 0), [count, length, width]);
        for (let index = 0; index < depth; index++) {
          x = transformerBlock(context, `blocks.${String(index)}`, x, {
            ...{ heads: size.heads, bias },
            drop: (added, behind) => drop(added, 1 + 2 * index + (behind === "attention" ? 0 : 1)),
          });
        }
        return pool(context, x, mask);
      }),
    ...applyHeads(heads),
  };
}
