/**
 * An encoder's state in PyTorch's layouts, under torchvision's or timm's names, and back. TensorFlow has filters as
 * `[height, width, in, out]` and dense weights as `[in, out]`; PyTorch has `[out, in, height, width]` and `[out, in]`.
 * Everything else lies alike.
 */
import type { NamedTensor } from "../checkpoint/index.js";
import type { ParameterLayout, ParameterSpec } from "./parameters.js";

/** Axes of a filter, HWIO, in the order in which PyTorch has them. */
const OIHW = [3, 2, 0, 1] as const;

/** First part of the names of projection and prediction heads; all others are the backbone's. */
const HEADS = new Set(["fc", "head", "predictor"]);

export function isHead(name: string): boolean {
  return HEADS.has(name.split(".", 1)[0]);
}

/** Shape and role of a parameter say how it is laid out. */
type Laid = Pick<ParameterSpec, "shape" | "role">;

/** Order of PyTorch's axes among TensorFlow's; null: the same. */
function pytorchAxes({ shape, role }: Laid): readonly number[] | null {
  if (shape.length === 4) return OIHW;
  return role === "dense" && shape.length === 2 ? [1, 0] : null;
}

export function pytorchShape(spec: Laid): readonly number[] {
  return pytorchAxes(spec)?.map((axis) => spec.shape[axis]) ?? spec.shape;
}

/** @param values in TensorFlow's layout; stays as it is, and is returned where both layouts agree */
export function toPytorch(spec: Laid, values: Float32Array): Float32Array {
  const axes = pytorchAxes(spec);
  return axes === null ? values : transposed(values, spec.shape, axes);
}

/** @param values in PyTorch's layout, of `pytorchShape(spec)`; stays as it is, and is returned where both layouts agree */
export function fromPytorch(spec: Laid, values: Float32Array): Float32Array {
  const axes = pytorchAxes(spec);
  if (axes === null) return values;
  const inverse = spec.shape.map((_, axis) => axes.indexOf(axis));
  return transposed(values, pytorchShape(spec), inverse);
}

/** As NumPy's `transpose`: axis `i` of the result is axis `axes[i]` of `values`. */
function transposed(values: Float32Array, shape: readonly number[], axes: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, side) => product * side, 1));
  const sides = axes.map((axis) => shape[axis]);
  const steps = axes.map((axis) => strides[axis]);
  const result = new Float32Array(values.length);
  let place = 0;
  const fill = (axis: number, start: number): void => {
    for (let index = 0; index < sides[axis]; index++) {
      const at = start + index * steps[axis];
      if (axis === sides.length - 1) result[place++] = values[at];
      else fill(axis + 1, at);
    }
  };
  fill(0, 0);
  return result;
}

/** One encoder's values. */
export interface EncoderState {
  /** θ, float32 `[layout.parameterCount]` */
  readonly parameters: Float32Array;
  /** batch-norm statistics, float32 `[layout.bufferCount]` */
  readonly buffers: Float32Array;
}

/**
 * A `state_dict`: parameters, running statistics, and `num_batches_tracked` of each batch norm, which PyTorch wants with
 * `strict=True` and never uses where statistics have a fixed momentum.
 * @param withHead projection and prediction heads too
 * @param step updates of the running statistics
 */
export function pytorchState(
  layout: ParameterLayout,
  { parameters, buffers }: EncoderState,
  { withHead, step }: { readonly withHead: boolean; readonly step: number },
): NamedTensor[] {
  const wanted = ({ name }: { readonly name: string }) => withHead || !isHead(name);
  const statistics = layout.buffers.filter(wanted);
  return [
    ...layout.parameters.filter(wanted).map((spec): NamedTensor => {
      const data = toPytorch(spec, parameters.subarray(spec.offset, spec.offset + spec.size));
      return { name: spec.name, dtype: "F32", shape: pytorchShape(spec), data };
    }),
    ...statistics.map(({ name, offset, size }): NamedTensor => ({
      name,
      dtype: "F32",
      shape: [size],
      data: buffers.subarray(offset, offset + size),
    })),
    ...statistics
      .filter(({ statistic }) => statistic === "mean")
      .map(({ name }): NamedTensor => ({
        name: name.replace(/running_mean$/, "num_batches_tracked"),
        dtype: "I64",
        shape: [],
        data: BigInt64Array.of(BigInt(step)),
      })),
  ];
}
