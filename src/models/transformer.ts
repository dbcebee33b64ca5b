/** The block of a pre-norm Transformer (Vaswani et al. 2017; Xiong et al. 2020), in timm's arithmetic and names. */
import {
  gelu,
  inFullPrecision,
  layerNorm,
  tf,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
} from "../engine/index.js";
import type { ForwardContext } from "./forward.js";

const LAYER_NORM_EPSILON = 1e-6;

/** Layer norm of each row. */
export function normaliseTokens(context: ForwardContext, name: string, x: Tensor2D): Tensor2D {
  const scale = context.parameter<Tensor1D>(`${name}.weight`);
  return layerNorm(x, scale, context.parameter<Tensor1D>(`${name}.bias`), LAYER_NORM_EPSILON);
}

export interface BlockOptions {
  /** of the attention */
  readonly heads: number;
  /** added to the attention's logits, `[N, 1, 1, T]`: what keeps it off padding */
  readonly bias?: Tensor;
  /** acts on what attention and MLP add, `[N·T, D]` */
  readonly drop?: (x: Tensor2D, behind: "attention" | "mlp") => Tensor2D;
}

/**
 * @param x `[N, T, D]`
 * @returns `[N, T, D]`
 */
export function transformerBlock(
  context: ForwardContext,
  name: string,
  x: Tensor3D,
  { heads, bias, drop = (added) => added }: BlockOptions,
): Tensor3D {
  const [count, length, width] = x.shape;
  const tokens: Tensor2D = tf.reshape(x, [count * length, width]);
  const normal = normaliseTokens(context, `${name}.norm1`, tokens);
  const mixed = attention(context, `${name}.attn`, normal, { count, length, heads, bias: bias ?? null });
  const attended = residual(tokens, drop(mixed, "attention"));
  const hidden = gelu(dense(context, `${name}.mlp.fc1`, normaliseTokens(context, `${name}.norm2`, attended)));
  return tf.reshape(residual(attended, drop(dense(context, `${name}.mlp.fc2`, hidden), "mlp")), [count, length, width]);
}

/** What flows past the blocks is summed in float32, also in mixed precision: each block adds little to much. */
function residual(x: Tensor2D, y: Tensor2D): Tensor2D {
  return inFullPrecision(() => tf.add(x, y));
}

function dense(context: ForwardContext, name: string, x: Tensor2D): Tensor2D {
  return tf.add(tf.matMul(x, context.parameter(`${name}.weight`)), context.parameter(`${name}.bias`));
}

interface Attention {
  readonly count: number;
  readonly length: number;
  readonly heads: number;
  readonly bias: Tensor | null;
}

/** Multi-head self-attention. @param x `[N·T, D]` */
function attention(
  context: ForwardContext,
  name: string,
  x: Tensor2D,
  { count, length, heads, bias }: Attention,
): Tensor2D {
  const [, width] = x.shape;
  const perHead = width / heads;
  const projected = tf.reshape(dense(context, `${name}.qkv`, x), [count, length, 3, heads, perHead]);
  const [queries, keys, values] = tf
    .split(tf.transpose(projected, [2, 0, 3, 1, 4]), 3, 0)
    .map((part) => tf.reshape(part, [count, heads, length, perHead]));
  const logits = tf.matMul(tf.mul(queries, perHead ** -0.5), keys, false, true);
  const weights = tf.softmax(bias === null ? logits : tf.add(logits, bias));
  const mixed = tf.transpose(tf.matMul(weights, values), [0, 2, 1, 3]);
  return dense(context, `${name}.proj`, tf.reshape(mixed, [count * length, width]));
}
