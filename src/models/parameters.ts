/**
 * Parameters and buffers of an encoder as slices of flat vectors. Names are torchvision's or timm's; shapes are TensorFlow's
 * (filters HWIO, dense `[in, out]`), so a slice becomes a tensor without moving a value.
 */
import { Purpose, Stream } from "../protocol/philox.js";

/** How a parameter starts if nothing else is said, and whether weight decay acts on it. */
export const PARAMETER_ROLES = ["convolution", "dense", "dense-bias", "norm-scale", "norm-shift", "token"] as const;
export type ParameterRole = (typeof PARAMETER_ROLES)[number];

/** Where a parameter starts, if not as its role would have it. */
export type ParameterStart =
  /** within ±bound */
  | { readonly kind: "uniform"; readonly bound: number }
  | { readonly kind: "normal"; readonly deviation: number }
  /** float32, as many as the parameter has */
  | { readonly kind: "values"; readonly values: Float32Array };

export interface ParameterOptions {
  readonly start?: ParameterStart;
  /** never trained: its gradient is 0 and it does not decay */
  readonly frozen?: boolean;
}

export interface ParameterSpec extends ParameterOptions {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: ParameterRole;
  /** index of the first value in the flat vector */
  readonly offset: number;
  readonly size: number;
}

/** Running mean or variance of one batch-norm layer. */
export interface BufferSpec {
  readonly name: string;
  readonly statistic: "mean" | "variance";
  readonly offset: number;
  readonly size: number;
}

/** Everything that an encoder's state holds, in the order of its layers. */
export interface ParameterLayout {
  readonly parameters: readonly ParameterSpec[];
  readonly buffers: readonly BufferSpec[];
  /** length of θ in values */
  readonly parameterCount: number;
  /** length of the batch-norm buffers of one encoder in values */
  readonly bufferCount: number;
}

/** Collects specs while a model describes itself. */
export class LayoutBuilder {
  private readonly parameters: ParameterSpec[] = [];
  private readonly buffers: BufferSpec[] = [];
  private parameterCount = 0;
  private bufferCount = 0;

  parameter(name: string, shape: readonly number[], role: ParameterRole, options: ParameterOptions = {}): void {
    const size = shape.reduce((product, side) => product * side, 1);
    this.parameters.push({ name, shape, role, offset: this.parameterCount, size, ...options });
    this.parameterCount += size;
  }

  /** @param affine whether it has a scale and a shift */
  batchNorm(name: string, channels: number, affine = true): void {
    if (affine) {
      this.parameter(`${name}.weight`, [channels], "norm-scale");
      this.parameter(`${name}.bias`, [channels], "norm-shift");
    }
    for (const statistic of ["mean", "variance"] as const) {
      const suffix = statistic === "mean" ? "running_mean" : "running_var";
      this.buffers.push({ name: `${name}.${suffix}`, statistic, offset: this.bufferCount, size: channels });
      this.bufferCount += channels;
    }
  }

  layerNorm(name: string, width: number): void {
    this.parameter(`${name}.weight`, [width], "norm-scale");
    this.parameter(`${name}.bias`, [width], "norm-shift");
  }

  build(): ParameterLayout {
    return {
      parameters: this.parameters,
      buffers: this.buffers,
      parameterCount: this.parameterCount,
      bufferCount: this.bufferCount,
    };
  }
}

/** Whether it is a factor of convolutions or matrix products: those that mixed precision computes in bfloat16. */
export function isWeight({ role }: ParameterSpec): boolean {
  return role === "convolution" || role === "dense";
}

/** Whether weight decay acts on a parameter. @param normAndBias whether it acts on those that are no weights too */
export function isDecayed(spec: ParameterSpec, normAndBias: boolean): boolean {
  return spec.frozen !== true && (normAndBias || isWeight(spec));
}

/** σ of what is neither a weight nor a norm's, as timm draws tokens. */
const TOKEN_DEVIATION = 0.02;

/**
 * θ at step 0: each parameter as it says, or by its role. Roles start as torchvision starts a ResNet: convolutions normal with
 * σ = √(2 / fan-out) (He et al. 2015), norms 1 and 0, dense layers uniform in ±1/√fan-in.
 * @returns float32 `[parameterCount]`
 */
export function initialParameters(layout: ParameterLayout, seed: number): Float32Array {
  const values = new Float32Array(layout.parameterCount);
  let fanIn = 1;
  layout.parameters.forEach((spec, index) => {
    // A bias follows its weight in the layout and shares its bound.
    if (spec.role === "dense") fanIn = spec.shape[0];
    const slice = values.subarray(spec.offset, spec.offset + spec.size);
    const draws = new Stream(seed, { purpose: Purpose.parameter, epoch: index });
    fill(slice, draws, spec.start ?? startOf(spec, fanIn));
  });
  return values;
}

function fill(slice: Float32Array, draws: Stream, start: ParameterStart | number): void {
  if (typeof start === "number") slice.fill(start);
  else if (start.kind === "values") slice.set(start.values);
  else if (start.kind === "normal") for (let i = 0; i < slice.length; i++) slice[i] = start.deviation * draws.normal();
  else for (let i = 0; i < slice.length; i++) slice[i] = draws.uniform(-start.bound, start.bound);
}

/** A number: all values are it. */
function startOf({ role, shape }: ParameterSpec, fanIn: number): ParameterStart | number {
  switch (role) {
    case "convolution": {
      const [height, width, , outputs] = shape as [number, number, number, number];
      return { kind: "normal", deviation: Math.sqrt(2 / (height * width * outputs)) };
    }
    case "dense":
    case "dense-bias":
      return { kind: "uniform", bound: 1 / Math.sqrt(fanIn) };
    case "token":
      return { kind: "normal", deviation: TOKEN_DEVIATION };
    case "norm-scale":
      return 1;
    case "norm-shift":
      return 0;
  }
}

/** Batch-norm buffers at step 0: mean 0, variance 1. float32 `[bufferCount]` */
export function initialBuffers(layout: ParameterLayout): Float32Array {
  const values = new Float32Array(layout.bufferCount);
  for (const spec of layout.buffers) {
    if (spec.statistic === "variance") values.fill(1, spec.offset, spec.offset + spec.size);
  }
  return values;
}
