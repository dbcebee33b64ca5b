/** The forward pass of the heads behind a backbone. */
import { relu, tf, type Tensor1D, type Tensor2D } from "../engine/index.js";
import type { Encoder } from "./encoder.js";
import type { ForwardContext } from "./forward.js";
import type { HeadLayer, Heads } from "./heads.js";

export function applyHeads({ head, predictor }: Heads): Pick<Encoder, "project" | "predict"> {
  return {
    project: (context, features) => head.reduce((x, layer) => applyLayer(context, layer, x), features),
    predict: (context, projected) => predictor.reduce((x, layer) => applyLayer(context, layer, x), projected),
  };
}

function applyLayer(context: ForwardContext, { dense, bias, norm, relu: rectify }: HeadLayer, x: Tensor2D): Tensor2D {
  const product = tf.matMul<Tensor2D>(x, context.parameter(`${dense}.weight`));
  const y = bias ? tf.add<Tensor2D>(product, context.parameter(`${dense}.bias`)) : product;
  if (norm === null) return rectify ? relu(y) : y;
  const [rows, width] = y.shape;
  const scale = norm.affine
    ? context.parameter<Tensor1D>(`${norm.name}.weight`)
    : tf.tensor1d(new Float32Array(width).fill(1));
  const shift = norm.affine ? context.parameter<Tensor1D>(`${norm.name}.bias`) : tf.tensor1d(new Float32Array(width));
  return tf.reshape(context.normalise(norm.name, tf.reshape(y, [rows, 1, 1, width]), scale, shift, rectify), [
    rows,
    width,
  ]);
}
