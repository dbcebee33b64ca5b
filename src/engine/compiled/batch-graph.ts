/** A function of a batch as a graph for batches of any size, in TensorFlow's form or in tfjs's. */
import { tf, type Tensor } from "../tensorflow.js";
import { graphModel, type GraphModel } from "./graph-model.js";
import { DTYPE, isSameNode, prune, type Graph, type Node, type TensorType } from "./graph.js";
import { CannotCompile, record } from "./record.js";
import { encodeSavedModel } from "./saved-model.js";

/** How TensorFlow writes a side that may have any length. */
const ANY = -1;
/** Sizes that the function is recorded with: what differs between the records depends on the size. */
const [ONE_SIZE, OTHER_SIZE] = [2, 3];

/** What input and output are called. */
export interface BatchNames {
  readonly input: string;
  readonly output: string;
}

/**
 * @param compute takes `[N, …shape]` float32 and gives `[N, …]`; makes all other tensors that it needs itself
 * @param shape of one sample
 * @param names in the signature `serving_default`
 * @returns the bytes of a `saved_model.pb`
 * @throws CannotCompile where an operation does not fit into a graph, or one's attributes depend on N
 */
export function batchSavedModel(
  compute: (batch: Tensor) => Tensor,
  shape: readonly number[],
  { input, output }: BatchNames,
): Uint8Array {
  return encodeSavedModel(batchGraph(compute, shape), { inputs: [input], outputs: [output] });
}

/** Parameters and errors as of `batchSavedModel`. */
export function batchGraphModel(
  compute: (batch: Tensor) => Tensor,
  shape: readonly number[],
  names: BatchNames,
): GraphModel {
  return graphModel(batchGraph(compute, shape), names);
}

function batchGraph(compute: (batch: Tensor) => Tensor, shape: readonly number[]): Graph {
  const recorded = (size: number): Graph => {
    const example = tf.zeros([size, ...shape]);
    try {
      return prune(record(([batch]) => [compute(batch)], [example]));
    } finally {
      example.dispose();
    }
  };
  const [graph, other] = withoutSize(recorded(ONE_SIZE), recorded(OTHER_SIZE));
  const nodes = graph.nodes.map((node, index): Node => {
    const outputs = node.outputs.map((type, place) => common(type, other.nodes[index]?.outputs[place]));
    const isInput = index < graph.inputCount;
    if (!isInput && !isSameNode({ ...node, outputs }, { ...other.nodes[index], outputs })) {
      throw new CannotCompile(`${node.operation} depends on the number of samples in a batch`);
    }
    const attributes = isInput ? { ...node.attributes, shape: { shape: outputs[0].shape } } : node.attributes;
    return { ...node, attributes, outputs };
  });
  return { ...graph, nodes };
}

/** Both records with −1 in place of the batch's size, where an operation takes that for "what is left". */
function withoutSize(left: Graph, right: Graph): readonly [Graph, Graph] {
  const places = left.nodes.map((_, index) => sizePlace(left, right, index));
  const replaced = (graph: Graph): Graph => ({
    ...graph,
    nodes: graph.nodes.map((node, index) => {
      const place = places[index] ?? null;
      if (place === null || node.value === null) return node;
      const value = node.value.slice();
      new DataView(value.buffer).setInt32(INT_BYTES * place, ANY, true);
      return { ...node, value };
    }),
  });
  return [replaced(left), replaced(right)];
}

/**
 * Which element of a constant is the batch's size or a multiple of it, and may be −1: of a Reshape's shape, or of a Slice's sizes where
 * it takes the whole axis. Null: none, or the constant says it in another way.
 */
function sizePlace(left: Graph, right: Graph, index: number): number | null {
  const [values, others] = [integersOf(left.nodes[index]), integersOf(right.nodes[index])];
  if (values === null || others?.length !== values.length || values.includes(ANY)) return null;
  const differing = values.flatMap((value, place) => (value === others[place] ? [] : [place]));
  const [place] = differing;
  if (differing.length !== 1 || values[place] * OTHER_SIZE !== others[place] * ONE_SIZE) return null;
  const isImplied = left.nodes.every(({ operation, inputs }) =>
    inputs.every(({ node }, position) => {
      if (node !== index || (operation === "Reshape" && position === 1)) return true;
      const [{ node: sliced, output }] = inputs;
      return (
        operation === "Slice" && position === 2 && left.nodes[sliced].outputs[output].shape[place] === values[place]
      );
    }),
  );
  return isImplied ? place : null;
}

const INT_BYTES = 4;

/** Of an int32 constant. */
function integersOf(node: Node | undefined): number[] | null {
  if (node?.value == null || node.outputs[0].dtype !== DTYPE.int32) return null;
  const { buffer, byteOffset, byteLength } = node.value;
  const view = new DataView(buffer, byteOffset, byteLength);
  return Array.from({ length: byteLength / INT_BYTES }, (_, place) => view.getInt32(INT_BYTES * place, true));
}

function common({ dtype, shape }: TensorType, other: TensorType | undefined): TensorType {
  return { dtype, shape: shape.map((side, axis) => (side === other?.shape[axis] ? side : ANY)) };
}
