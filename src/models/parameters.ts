/**
 * Parameters and buffers of an encoder as slices of flat vectors. Names are torchvision's; shapes are TensorFlow's
 * (filters HWIO, dense `[in, out]`), so a slice becomes a tensor without moving a value.
 */
import { Purpose, Stream } from "../protocol/philox.js";

/** How a parameter starts, and whether weight decay acts on it. */
export type ParameterRole = "convolution" | "dense" | "dense-bias" | "norm-scale" | "norm-shift";

export interface ParameterSpec {
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

  parameter(name: string, shape: readonly number[], role: ParameterRole): void {
    const size = shape.reduce((product, side) => product * side, 1);
    this.parameters.push({ name, shape, role, offset: this.parameterCount, size });
    this.parameterCount += size;
  }

  batchNorm(name: string, channels: number): void {
    this.parameter(`${name}.weight`, [channels], "norm-scale");
    this.parameter(`${name}.bias`, [channels], "norm-shift");
    for (const statistic of ["mean", "variance"] as const) {
      const suffix = statistic === "mean" ? "running_mean" : "running_var";
      this.buffers.push({ name: `${name}.${suffix}`, statistic, offset: this.bufferCount, size: channels });
      this.bufferCount += channels;
    }
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

/**
 * θ at step 0, as torchvision starts a ResNet: convolutions normal with σ = √(2 / fan-out) (He et al. 2015), batch norm
 * 1 and 0, dense layers uniform in ±1/√fan-in.
 * @returns float32 `[parameterCount]`
 */
export function initialParameters(layout: ParameterLayout, seed: number): Float32Array {
  const values = new Float32Array(layout.parameterCount);
  let fanIn = 1;
  layout.parameters.forEach((spec, index) => {
    const slice = values.subarray(spec.offset, spec.offset + spec.size);
    const draws = new Stream(seed, { purpose: Purpose.parameter, epoch: index });
    switch (spec.role) {
      case "convolution": {
        const [height, width, , outputs] = spec.shape as [number, number, number, number];
        const deviation = Math.sqrt(2 / (height * width * outputs));
        for (let i = 0; i < slice.length; i++) slice[i] = deviation * draws.normal();
        break;
      }
      case "dense":
      case "dense-bias": {
        // A bias follows its weight in the layout and shares its bound.
        if (spec.role === "dense") fanIn = spec.shape[0];
        const bound = 1 / Math.sqrt(fanIn);
        for (let i = 0; i < slice.length; i++) slice[i] = draws.uniform(-bound, bound);
        break;
      }
      case "norm-scale":
        slice.fill(1);
        break;
      case "norm-shift":
        break;
    }
  });
  return values;
}

/** Batch-norm buffers at step 0: mean 0, variance 1. float32 `[bufferCount]` */
export function initialBuffers(layout: ParameterLayout): Float32Array {
  const values = new Float32Array(layout.bufferCount);
  for (const spec of layout.buffers) {
    if (spec.statistic === "variance") values.fill(1, spec.offset, spec.offset + spec.size);
  }
  return values;
}
