/** A text Transformer as an encoder of a run, whose views are one tensor whatever they are of. */
import { TEXT_TRANSFORMERS, type TextTransformerName } from "../config/text-encoders.js";
import { tf, type Tensor2D } from "../engine/index.js";
import type { Encoder } from "./encoder.js";
import { textTransformer, type Texts } from "./text-transformer.js";
import type { TextTransformerOptions } from "./text-architecture.js";

/** Its views are rows as `textRows` makes them. */
export function textEncoder(name: TextTransformerName, options: TextTransformerOptions): Encoder {
  const transformer = textTransformer(TEXT_TRANSFORMERS[name], options);
  return {
    ...transformer,
    features: (context, rows: Tensor2D) => transformer.features(context, textsOf(rows, options.maxLength)),
  };
}

/**
 * Texts as rows, so that methods may string together and reorder views without knowing what they are of.
 * @param ids int32 `[N, L]` tokens, −1 behind the end
 * @param dropout float32 `[N, F]` factors; null: none
 * @returns float32 `[N, L]`, or `[N, L + F]`: tokens, which float32 holds exactly up to 2²⁴, then factors
 */
export function textRows(ids: Tensor2D, dropout: Tensor2D | null): Tensor2D {
  return tf.tidy(() => {
    const tokens: Tensor2D = tf.cast(ids, "float32");
    return dropout === null ? tokens : tf.concat([tokens, dropout], 1);
  });
}

/** What `textRows` has put together. @param length L */
function textsOf(rows: Tensor2D, length: number): Texts {
  const [count, columns] = rows.shape;
  const tokens = tf.slice(rows, [0, 0], [count, length]);
  return {
    ids: tf.cast(tf.maximum(tokens, 0), "int32"),
    mask: tf.cast(tf.greaterEqual(tokens, 0), "float32"),
    dropout: columns === length ? null : tf.slice(rows, [0, length], [count, columns - length]),
  };
}
