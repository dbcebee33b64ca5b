/** The heads behind a backbone: a projection head, and for MoCo v3 a prediction head. A value: no engine is needed to read it. */
import type { LayoutBuilder } from "./parameters.js";

export interface HeadOptions {
  readonly head: "mlp" | "linear" | "mlp-bn";
  /** whether a prediction head follows the projection (MoCo v3) */
  readonly predictor?: boolean;
  /** width between the dense layers of a head; null or left out: featureDim */
  readonly hiddenDim?: number | null;
  readonly embeddingDim: number;
}

/** A dense layer of a head with what follows it. */
export interface HeadLayer {
  readonly dense: string;
  readonly bias: boolean;
  /** a batch norm behind it: with scale and shift, without them, or none */
  readonly norm: { readonly name: string; readonly affine: boolean } | null;
  readonly relu: boolean;
}

export interface Heads {
  readonly head: readonly HeadLayer[];
  /** empty: none */
  readonly predictor: readonly HeadLayer[];
}

/** What a family of backbones says about the head that follows it. */
export interface HeadPlace {
  /** prefix of its parameters, as the reference names it: `fc` (torchvision), `head` (timm) */
  readonly name: string;
  readonly featureDim: number;
  /** dense layers of `mlp-bn`: MoCo v3 gives its ResNets two and its ViTs three */
  readonly layersWithNorm: number;
}

/** Declares the parameters of the heads, and says how they are strung together. */
export function addHeads(
  builder: LayoutBuilder,
  options: HeadOptions,
  { name: prefix, featureDim, layersWithNorm }: HeadPlace,
): Heads {
  const { embeddingDim } = options;
  const hidden = options.hiddenDim ?? featureDim;
  const dense = (name: string, inputs: number, outputs: number, more: Partial<HeadLayer>): HeadLayer => {
    const layer: HeadLayer = { dense: name, bias: true, norm: null, relu: false, ...more };
    builder.parameter(`${name}.weight`, [inputs, outputs], "dense");
    if (layer.bias) builder.parameter(`${name}.bias`, [outputs], "dense-bias");
    if (layer.norm !== null) builder.batchNorm(layer.norm.name, outputs, layer.norm.affine);
    return layer;
  };
  /** MoCo v3's `_build_mlp`: no biases, batch norm behind every layer, without scale and shift behind the last */
  const mlpWithNorm = (name: string, inputs: number, layers: number): HeadLayer[] =>
    Array.from({ length: layers }, (_, index) => {
      const isLast = index === layers - 1;
      return dense(`${name}.${String(3 * index)}`, index === 0 ? inputs : hidden, isLast ? embeddingDim : hidden, {
        bias: false,
        norm: { name: `${name}.${String(3 * index + 1)}`, affine: !isLast },
        relu: !isLast,
      });
    });
  const kinds = {
    linear: () => [dense(prefix, featureDim, embeddingDim, {})],
    mlp: () => [
      dense(`${prefix}.0`, featureDim, hidden, { relu: true }),
      dense(`${prefix}.2`, hidden, embeddingDim, {}),
    ],
    "mlp-bn": () => mlpWithNorm(prefix, featureDim, layersWithNorm),
  };
  const head = kinds[options.head]();
  return { head, predictor: options.predictor === true ? mlpWithNorm("predictor", embeddingDim, 2) : [] };
}
