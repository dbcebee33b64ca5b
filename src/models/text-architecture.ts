/**
 * What a Transformer that reads text is made of: learned embeddings of tokens and of their places (Devlin et al. 2019), the
 * ViT's pre-norm blocks, and a final norm. A value: no engine is needed to read it.
 */
import { addHeads, type HeadOptions, type Heads } from "./heads.js";
import { LayoutBuilder, type ParameterLayout } from "./parameters.js";
import { addBlock, type TransformerSize } from "./vit-architecture.js";

export interface TextTransformerOptions extends HeadOptions {
  /** number of different tokens */
  readonly vocabulary: number;
  /** most tokens in a text */
  readonly maxLength: number;
  /** a text's features: the mean over its tokens, or the first token's, which is then a class token */
  readonly pooling: "mean" | "first";
}

export interface TextTransformerArchitecture extends Heads {
  readonly layout: ParameterLayout;
  /** length of a feature vector: a token's, D */
  readonly featureDim: number;
}

export function textTransformerArchitecture(
  { width, depth }: TransformerSize,
  options: TextTransformerOptions,
): TextTransformerArchitecture {
  const builder = new LayoutBuilder();
  builder.parameter("token_embed.weight", [options.vocabulary, width], "token");
  builder.parameter("pos_embed", [1, options.maxLength, width], "token");
  for (let index = 0; index < depth; index++) addBlock(builder, `blocks.${String(index)}`, width);
  builder.layerNorm("norm", width);
  const heads = addHeads(builder, options, { name: "head", featureDim: width, layersWithNorm: 3 });
  return { layout: builder.build(), featureDim: width, ...heads };
}
