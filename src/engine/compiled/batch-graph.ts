/** A function of a batch as a TensorFlow SavedModel for batches of any size. */
import { tf, type Tensor } from "../tensorflow.js";
import { isSameNode, prune, type Graph, type Node, type TensorType } from "./graph.js";
import { CannotCompile, record } from "./record.js";
import { encodeSavedModel } from "./saved-model.js";

/** How TensorFlow writes a side that may have any length. */
const ANY = -1;
/** Sizes that the function is recorded with: what differs between the records depends on the size. */
const [ONE_SIZE, OTHER_SIZE] = [2, 3];

/**
 * @param compute takes `[N, …shape]` float32 and gives `[N, …]`; makes all other tensors that it needs itself
 * @param shape of one sample
 * @param names of input and output in the signature `serving_default`
 * @returns the bytes of a `saved_model.pb`
 * @throws CannotCompile where an operation does not fit into a graph, or one's attributes depend on N
 */
export function batchSavedModel(
  compute: (batch: Tensor) => Tensor,
  shape: readonly number[],
  names: { readonly input: string; readonly output: string },
): Uint8Array {
  const recorded = (size: number): Graph => {
    const example = tf.zeros([size, ...shape]);
    try {
      return prune(record(([batch]) => [compute(batch)], [example]));
    } finally {
      example.dispose();
    }
  };
  const [graph, other] = [recorded(ONE_SIZE), recorded(OTHER_SIZE)];
  const nodes = graph.nodes.map((node, index): Node => {
    const outputs = node.outputs.map((type, place) => common(type, other.nodes[index]?.outputs[place]));
    const isInput = index < graph.inputCount;
    if (!isInput && !isSameNode({ ...node, outputs }, { ...other.nodes[index], outputs })) {
      throw new CannotCompile(`${node.operation} depends on the number of samples in a batch`);
    }
    const attributes = isInput ? { ...node.attributes, shape: { shape: outputs[0].shape } } : node.attributes;
    return { ...node, attributes, outputs };
  });
  return encodeSavedModel({ ...graph, nodes }, { inputs: [names.input], outputs: [names.output] });
}

function common({ dtype, shape }: TensorType, other: TensorType | undefined): TensorType {
  return { dtype, shape: shape.map((side, axis) => (side === other?.shape[axis] ? side : ANY)) };
}
