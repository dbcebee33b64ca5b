/**
 * What a Vision Transformer (Dosovitskiy et al. 2021) is made of, in the structure and names of timm's
 * `vit_*_patch16_224`, started and partly frozen as MoCo v3 does (Chen, Xie and He 2021, sections 4.2 and 5; `vits.py` of its
 * code): the position embedding is a fixed sine-cosine one, and the projection of patches stays as it is drawn, since training
 * it makes the run unstable. A value: no engine is needed to read it.
 */
import { addHeads, type HeadOptions, type Heads } from "./heads.js";
import { LayoutBuilder, type ParameterLayout } from "./parameters.js";
import { sineCosine2d } from "./position-embedding.js";

export interface TransformerSize {
  /** D, length of a token; a multiple of 4 and of `heads` */
  readonly width: number;
  /** number of blocks */
  readonly depth: number;
  /** heads of each attention */
  readonly heads: number;
}

/** timm's sizes. (MoCo v3's own ViT-S has 12 heads.) */
export const VISION_TRANSFORMERS = {
  "vit-tiny": { width: 192, depth: 12, heads: 3 },
  "vit-small": { width: 384, depth: 12, heads: 6 },
  "vit-base": { width: 768, depth: 12, heads: 12 },
} as const satisfies Record<string, TransformerSize>;

export type VisionTransformerName = keyof typeof VISION_TRANSFORMERS;

export function isVisionTransformer(encoder: string): encoder is VisionTransformerName {
  return Object.hasOwn(VISION_TRANSFORMERS, encoder);
}

export interface VisionTransformerOptions extends HeadOptions {
  /** side of the square images in pixels, a multiple of `patchSize` */
  readonly imageSize: number;
  /** side of a patch in pixels */
  readonly patchSize: number;
  /** whether the projection of patches stays as it is drawn */
  readonly patchProjection: "frozen" | "trained";
}

export interface VisionTransformerArchitecture extends Heads {
  readonly layout: ParameterLayout;
  /** length of a feature vector: the class token's, D */
  readonly featureDim: number;
  /** patches along a side */
  readonly grid: number;
  readonly patchSize: number;
  readonly size: TransformerSize;
}

/** Width of a block's MLP over the token's. */
const MLP_RATIO = 4;
const CLASS_TOKEN_DEVIATION = 1e-6;
const CHANNELS = 3;

export function visionTransformerArchitecture(
  size: TransformerSize,
  options: VisionTransformerOptions,
): VisionTransformerArchitecture {
  const { width, depth } = size;
  const { patchSize, imageSize } = options;
  const grid = imageSize / patchSize;
  const builder = new LayoutBuilder();
  const token = { kind: "normal", deviation: CLASS_TOKEN_DEVIATION } as const;
  builder.parameter("cls_token", [1, 1, width], "token", { start: token });
  builder.parameter("pos_embed", [1, 1 + grid * grid, width], "token", {
    start: { kind: "values", values: sineCosine2d(grid, width) },
    frozen: true,
  });
  const frozen = options.patchProjection === "frozen";
  const bound = xavierBound(CHANNELS * patchSize * patchSize, width);
  builder.parameter("patch_embed.proj.weight", [patchSize, patchSize, CHANNELS, width], "convolution", {
    start: { kind: "uniform", bound },
    frozen,
  });
  builder.parameter("patch_embed.proj.bias", [width], "dense-bias", { start: ZERO, frozen });
  for (let index = 0; index < depth; index++) addBlock(builder, `blocks.${String(index)}`, width);
  builder.layerNorm("norm", width);
  const heads = addHeads(builder, options, { name: "head", featureDim: width, layersWithNorm: 3 });
  return { layout: builder.build(), featureDim: width, grid, patchSize, size, ...heads };
}

const ZERO = { kind: "uniform", bound: 0 } as const;

/** A pre-norm block: attention, then an MLP, both behind a layer norm. */
export function addBlock(builder: LayoutBuilder, name: string, width: number): void {
  const dense = (layer: string, inputs: number, outputs: number, bound: number) => {
    builder.parameter(`${name}.${layer}.weight`, [inputs, outputs], "dense", { start: { kind: "uniform", bound } });
    builder.parameter(`${name}.${layer}.bias`, [outputs], "dense-bias", { start: ZERO });
  };
  const hidden = MLP_RATIO * width;
  builder.layerNorm(`${name}.norm1`, width);
  // Queries, keys and values start as three layers of their own would.
  dense("attn.qkv", width, 3 * width, xavierBound(width, width));
  dense("attn.proj", width, width, xavierBound(width, width));
  builder.layerNorm(`${name}.norm2`, width);
  dense("mlp.fc1", width, hidden, xavierBound(width, hidden));
  dense("mlp.fc2", hidden, width, xavierBound(hidden, width));
}

/** Glorot and Bengio 2010, equation 16 */
function xavierBound(inputs: number, outputs: number): number {
  return Math.sqrt(6 / (inputs + outputs));
}
