/**
 * What a file with an encoder of the user's own exports by default: an `OwnEncoder`, a `tf.LayersModel`, or a function that gives
 * either. docs/encoders.md tells it with examples.
 */
import type { Tensor, Tensor1D, Tensor2D, Tensor4D, tf } from "../../engine/index.js";
import type { ParameterOptions, ParameterRole } from "../parameters.js";

/** What a function in the file is given. */
export interface EncoderSetting {
  /** tfjs, the one instance that there is */
  readonly tf: typeof tf;
  /** S, side of the square images in pixels */
  readonly imageSize: number;
}

/** Declares the parameters, in the order in which they will lie in checkpoints. */
export interface Declare {
  /**
   * @param name as in `parameter(name)` and in checkpoints
   * @param role how it starts, and whether it decays: `convolution` (`[h, w, in, out]`, normal, σ = √(2 / fan-out)), `dense`
   *   (`[in, out]`, uniform in ±1/√in) and `dense-bias` (as the dense one before it), `norm-scale` (1), `norm-shift` (0), `token`
   *   (normal, σ = 0.02). Decay acts on the first two
   * @param options another start (`{ start: { kind: "uniform", bound } }` or `{ kind: "normal", deviation }`), or `frozen: true`
   */
  parameter(name: string, shape: readonly number[], role: ParameterRole, options?: ParameterOptions): void;
  /** Batch norm's scale `NAME.weight`, shift `NAME.bias`, and running statistics. */
  batchNorm(name: string, channels: number): void;
}

/** What `features` computes with. */
export interface OwnContext {
  readonly tf: typeof tf;
  parameter<T extends Tensor>(name: string): T;
  /** Batch norm over `[N, H, W, C]` or `[N, C]`: by the batch in training, by running statistics in evaluation. */
  batchNorm<T extends Tensor>(name: string, x: T, options?: { readonly relu?: boolean }): T;
  /** 2-D convolution with `padding` zeros on every side, as PyTorch's; quicker than tfjs's own */
  conv2d(x: Tensor4D, filter: Tensor4D, stride: number, padding: number): Tensor4D;
  relu<T extends Tensor>(x: T): T;
  gelu<T extends Tensor>(x: T): T;
  /** Layer norm of the rows of `[N, D]`. */
  layerNorm(x: Tensor2D, scale: Tensor1D, shift: Tensor1D, epsilon: number): Tensor2D;
}

export interface OwnEncoder {
  /** length of a feature vector */
  readonly featureDim: number;
  parameters(declare: Declare): void;
  /**
   * `[N, S, S, 3]` normalised images → `[N, featureDim]`, float32. Nothing but tensor operations: no value is read back, no
   * random number drawn.
   */
  features(context: OwnContext, images: Tensor4D): Tensor2D;
}
