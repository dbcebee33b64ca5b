/**
 * Recording: a step is run once, eagerly, while everything that it asks of the binding is written down. What it makes of
 * JavaScript numbers becomes a constant; what it reads back to JavaScript, or takes from outside its inputs, is an error.
 */
import { nodeBackend, type Binding, type OperationAttribute } from "../backend.js";
import { tf, type Tensor } from "../tensorflow.js";
import { DTYPE, type AttributeValue, type Edge, type Graph, type Node } from "./graph.js";

/** The step cannot be turned into a graph; the message names the operation and says why. */
export class CannotCompile extends Error {
  override readonly name = "CannotCompile";
}

/** Operations whose result is another each time, whatever their inputs: a graph of them would not repeat eager's bits. */
const RANDOM = /^(Random|Stateless|Multinomial|TruncatedNormal|ParameterizedTruncatedNormal)/;

/**
 * Attributes that tfjs leaves out, or gets wrong, since eager execution infers them, while a graph must name them: the
 * dtypes of inputs, by position.
 */
const INFERRED: Readonly<Record<string, readonly string[]>> = { ExpandDims: ["T", "Tdim"], Mean: ["T"], Sum: ["T"] };

let current: Recorder | null = null;

/** The recording in progress, for the few engine functions that mean something else in a graph. */
export function currentRecording(): Recorder | null {
  return current;
}

/** Operations that `run` executes stay in float32 where the step is compiled in mixed precision. */
export function inFullPrecision<T>(run: () => T): T {
  if (current === null) return run();
  const before = current.fullPrecision;
  current.fullPrecision = true;
  try {
    return run();
  } finally {
    current.fullPrecision = before;
  }
}

/**
 * @param step takes and gives tensors by position
 * @returns what the step did; its results are disposed of
 * @throws CannotCompile
 */
export function record(step: (inputs: readonly Tensor[]) => readonly Tensor[], inputs: readonly Tensor[]): Graph {
  if (current !== null) throw new CannotCompile("a step was compiled while another was being recorded");
  const recorder = new Recorder(inputs);
  current = recorder;
  try {
    return recorder.run(() => step(inputs));
  } finally {
    current = null;
  }
}

export type NewNode = Pick<Node, "operation" | "attributes" | "inputs" | "outputs"> & Partial<Node>;

export class Recorder {
  /** Operations recorded while it is set stay in float32. */
  fullPrecision = false;
  private readonly nodes: Node[] = [];
  /** tensor id of the binding → who made it */
  private readonly made = new Map<number, Edge>();
  /** values that the step itself made tensors of, as they wait to be written to the device */
  private readonly ownValues = new WeakSet<object>();
  private readonly inputCount: number;
  private lastOperation = "the step's beginning";

  constructor(inputs: readonly Tensor[]) {
    const { binding } = nodeBackend();
    const ids = nodeBackend().getInputTensorIds(inputs);
    this.inputCount = inputs.length;
    inputs.forEach(({ shape, dtype }, index) => {
      const type = { dtype: numberOf(dtype, binding), shape };
      const id = ids[index];
      if (this.made.has(id)) throw new CannotCompile("the same tensor is given as two inputs");
      const attributes = { dtype: { type: type.dtype }, shape: { shape } };
      this.made.set(id, this.add({ operation: "Placeholder", attributes, inputs: [], outputs: [type] }));
    });
  }

  run(step: () => readonly Tensor[]): Graph {
    const backend = nodeBackend();
    const { binding, move } = backend;
    const watched = this.watch(binding);
    backend.binding = watched;
    backend.move = (dataId, values, ...rest) => {
      if (typeof values === "object" && values !== null) this.ownValues.add(values);
      move.call(backend, dataId, values, ...rest);
    };
    try {
      const outputs: Edge[] = [];
      tf.tidy(() => {
        const results = step();
        outputs.push(...backend.getInputTensorIds(results).map((id) => this.edgeOf(id, "the step's result")));
        for (const result of results) result.dispose();
      });
      return { nodes: this.nodes, inputCount: this.inputCount, outputs };
    } finally {
      backend.binding = binding;
      backend.move = move;
    }
  }

  /** Nodes that no tensor of JavaScript's stands for. @returns the edge of its first output */
  add(node: NewNode): Edge {
    this.nodes.push({ after: [], value: null, fullPrecision: this.fullPrecision, ...node });
    return { node: this.nodes.length - 1, output: 0 };
  }

  /** Which output of which node a tensor is. */
  edgeOfTensor(tensor: Tensor): Edge {
    return this.edgeOf(nodeBackend().getInputTensorIds([tensor])[0], "the step");
  }

  /** From now on the tensor stands for another node's output. */
  substitute(tensor: Tensor, edge: Edge): void {
    this.made.set(nodeBackend().getInputTensorIds([tensor])[0], edge);
  }

  private edgeOf(id: number, user: string): Edge {
    const edge = this.made.get(id);
    if (edge !== undefined) return edge;
    throw new CannotCompile(`${user} uses a tensor that is no input of the step and was not made in it: pass it in`);
  }

  private dtypeOf({ node, output }: Edge): AttributeValue {
    return { type: this.nodes[node].outputs[output].dtype };
  }

  /** The binding, seen through: an object on top of it whose methods write down and pass on. */
  private watch(binding: Binding): Binding {
    const define = <Name extends keyof Binding>(name: Name, value: Binding[Name]) => ({ [name]: { value } });
    return Object.create(binding, {
      ...define("executeOp", (operation, attributes, ids, outputCount) => {
        this.lastOperation = operation;
        if (RANDOM.test(operation)) {
          throw new CannotCompile(`${operation} draws random numbers by itself: draw them outside and pass them in`);
        }
        const inputs = ids.map((id) => this.edgeOf(id, operation));
        const results = binding.executeOp(operation, attributes, ids, outputCount);
        const given = attributes.map((attribute) => [attribute.name, valueOf(attribute, binding)]);
        const inferred = INFERRED[operation]?.map((name, position) => [name, this.dtypeOf(inputs[position])]) ?? [];
        const { node } = this.add({
          operation,
          attributes: Object.fromEntries([...given, ...inferred]) as Node["attributes"],
          inputs,
          outputs: results.map(({ dtype, shape }) => ({ dtype, shape })),
        });
        results.forEach(({ id }, output) => this.made.set(id, { node, output }));
        return results;
      }),
      ...define("createTensor", (shape, dtype, values) => {
        if (!this.ownValues.has(values)) {
          throw new CannotCompile(
            `the operation after ${this.lastOperation} uses a tensor that is no input of the step and was not made in it: pass it in`,
          );
        }
        const id = binding.createTensor(shape, dtype, values);
        this.made.set(id, this.constant(shape, dtype, values));
        return id;
      }),
      ...define("tensorDataSync", (id) => {
        const maker = this.made.get(id);
        const name = maker === undefined ? "a tensor" : `the result of ${this.nodes[maker.node].operation}`;
        throw new CannotCompile(`${name} is read back to JavaScript, after ${this.lastOperation}`);
      }),
    }) as Binding;
  }

  private constant(shape: readonly number[], dtype: number, values: unknown): Edge {
    if (!ArrayBuffer.isView(values)) throw new CannotCompile("a constant of strings cannot stand in a graph");
    const value = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
    const type = { dtype, shape };
    return this.add({ operation: "Const", attributes: { dtype: { type: dtype } }, inputs: [], outputs: [type], value });
  }
}

function numberOf(dtype: string, binding: Binding): number {
  if (dtype === "float32") return binding.TF_FLOAT;
  if (dtype === "int32") return binding.TF_INT32;
  if (dtype === "bool") return DTYPE.bool;
  throw new CannotCompile(`an input of dtype ${dtype}: give float32, int32 or bool`);
}

function valueOf({ name, type, value }: OperationAttribute, binding: Binding): AttributeValue {
  switch (type) {
    case binding.TF_ATTR_TYPE:
      return { type: value as number };
    case binding.TF_ATTR_INT:
      return { int: value as number | number[] };
    case binding.TF_ATTR_FLOAT:
      return { float: value as number | number[] };
    case binding.TF_ATTR_BOOL:
      return { bool: value as boolean };
    case binding.TF_ATTR_STRING:
      return { string: value as string | string[] };
    case binding.TF_ATTR_SHAPE:
      return { shape: value as number[] };
    default:
      throw new CannotCompile(`attribute ${name} is of a kind that graphs here do not know`);
  }
}
