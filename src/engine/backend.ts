/** Running a TensorFlow operation by name, beneath tfjs's own set. */
import { tf, type Tensor } from "./tensorflow.js";

/** Attribute of an operation, as the binding takes it. */
export interface OperationAttribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

export interface OutputMetadata {
  readonly id: number;
  readonly shape: readonly number[];
  /** TensorFlow's `DataType` */
  readonly dtype: number;
}

/** tfjs-node's native binding. Tensors are known to it by number. */
export interface Binding {
  executeOp(
    operation: string,
    attributes: readonly OperationAttribute[],
    inputs: readonly number[],
    outputs: number,
  ): OutputMetadata[];
  createTensor(shape: readonly number[], dtype: number, values: object): number;
  tensorDataSync(id: number): unknown;
  deleteTensor(id: number): void;
  /** @param inputNames and outputNames by comma: any tensors of the graph */
  runSavedModel(session: number, inputs: readonly number[], inputNames: string, outputNames: string): OutputMetadata[];
  readonly TF_Version: string;
  readonly TF_ATTR_SHAPE: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
}

interface NodeBackend {
  binding: Binding;
  /** ids of the binding's tensors; values that still wait in JavaScript are written to the device first */
  getInputTensorIds(tensors: readonly Tensor[]): number[];
  /** keeps values for a tensor until they are wanted on the device */
  move: (dataId: object, values: unknown, ...rest: unknown[]) => void;
  readonly isUsingGpuDevice: boolean;
  /** a tensor of the binding's as one of tfjs's, which owns it from then on */
  createOutputTensor(metadata: OutputMetadata): Tensor;
  executeMultipleOutputs(
    name: string,
    attributes: readonly OperationAttribute[],
    inputs: readonly unknown[],
    outputs: number,
  ): Tensor[];
}

export function nodeBackend(): NodeBackend {
  return tf.backend() as unknown as NodeBackend;
}

/** `{ kind: value }` pairs: `type` for dtypes, the rest as their names say. */
export type Attributes = Readonly<
  Record<
    string,
    | { readonly type: "float32" | "int32" }
    | { readonly int: number | readonly number[] }
    | { readonly float: number }
    | { readonly bool: boolean }
    | { readonly string: string }
  >
>;

/**
 * Runs one TensorFlow operation on the current device.
 * @throws Error with TensorFlow's message where the operation refuses its inputs
 */
export function execute(name: string, inputs: readonly unknown[], attributes: Attributes, outputs = 1): Tensor[] {
  const backend = nodeBackend();
  const { binding } = backend;
  const list = Object.entries(attributes).map(([key, value]): OperationAttribute => {
    if ("type" in value) {
      const dtype = value.type === "float32" ? binding.TF_FLOAT : binding.TF_INT32;
      return { name: key, type: binding.TF_ATTR_TYPE, value: dtype };
    }
    if ("int" in value) return { name: key, type: binding.TF_ATTR_INT, value: value.int };
    if ("float" in value) return { name: key, type: binding.TF_ATTR_FLOAT, value: value.float };
    if ("bool" in value) return { name: key, type: binding.TF_ATTR_BOOL, value: value.bool };
    return { name: key, type: binding.TF_ATTR_STRING, value: value.string };
  });
  return backend.executeMultipleOutputs(name, list, inputs, outputs);
}
