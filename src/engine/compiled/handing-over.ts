/**
 * Results that leave a graph while it runs, as a pass: an operation of ours (`src/native/hand-over.cc`) puts each where the step's caller wants it.
 */
import { DTYPE, type Edge, type Graph, type Node } from "./graph.js";

export const HAND_OVER = "TandemHandOver";
/** What takes long. */
const HEAVY = new Set(["Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul", "BatchMatMulV2"]);

export interface HandedOver {
  /** positions among the outputs, by place in the table. Float32; what the step returns there is float32 `[0]` */
  readonly results: readonly number[];
  /** position among the inputs of the table's number, int32 `[]`; 0: none, and nothing is handed over */
  readonly table: number;
  /**
   * Each before the next heavy operation of the recorded order, which is that of the backward pass. By itself TensorFlow puts the small ones
   * off until the end. A device that computes while the host copies would be made to wait.
   */
  readonly inOrder: boolean;
}

export function handingOver({ nodes, inputCount, outputs }: Graph, { results, table, inOrder }: HandedOver): Graph {
  const placesOf = new Map<number, number[]>();
  for (const [place, result] of results.entries()) {
    const { node } = outputs[result];
    placesOf.set(node, [...(placesOf.get(node) ?? []), place]);
  }
  const made: Node[] = [];
  /** by their old numbers */
  const numbers: number[] = [];
  const moved = ({ node, output }: Edge): Edge => ({ node: numbers[node], output });
  const handed: Edge[] = [];
  /** handed over since the last heavy operation */
  let waiting: number[] = [];
  for (const [index, node] of nodes.entries()) {
    const isHeavy = inOrder && HEAVY.has(node.operation);
    const after = [...node.after.map((before) => numbers[before]), ...(isHeavy ? waiting : [])];
    if (isHeavy) waiting = [];
    numbers[index] = made.push({ ...node, inputs: node.inputs.map(moved), after }) - 1;
    // Placeholders stay in front.
    if (index < inputCount - 1) continue;
    const ripe =
      index === inputCount - 1
        ? nodes.slice(0, inputCount).flatMap((_, at) => placesOf.get(at) ?? [])
        : (placesOf.get(index) ?? []);
    for (const place of ripe) {
      const inputs = [moved(outputs[results[place]]), { node: numbers[table], output: 0 }];
      const outputType = [{ dtype: DTYPE.float32, shape: [0] }];
      const attributes = { place: { int: place } };
      const operation = { operation: HAND_OVER, attributes, inputs, after: [], outputs: outputType };
      const number = made.push({ ...operation, fullPrecision: true, value: null }) - 1;
      handed[place] = { node: number, output: 0 };
      waiting.push(number);
    }
  }
  const places = new Map(results.map((result, place) => [result, handed[place]]));
  return { nodes: made, inputCount, outputs: outputs.map((edge, index) => places.get(index) ?? moved(edge)) };
}
