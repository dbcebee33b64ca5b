/**
 * Results that leave a graph while it runs, as a pass: an operation of ours (`src/native/hand-over.cc`) puts each where the step's caller wants it.
 */
import { DTYPE, type Graph, type Node } from "./graph.js";

const HAND_OVER = "TandemHandOver";

/**
 * @param results positions among the outputs, by place in the table. Float32; what the step returns there is float32 `[0]`
 * @param table position among the inputs of the table's number, int32 `[]`; 0: none, and nothing is handed over
 */
export function handingOver({ nodes, inputCount, outputs }: Graph, results: readonly number[], table: number): Graph {
  const handed = results.map((result, place): Node => ({
    operation: HAND_OVER,
    attributes: { place: { int: place } },
    inputs: [outputs[result], { node: table, output: 0 }],
    after: [],
    outputs: [{ dtype: DTYPE.float32, shape: [0] }],
    fullPrecision: true,
    value: null,
  }));
  const places = new Map(results.map((result, place) => [result, { node: nodes.length + place, output: 0 }]));
  return {
    nodes: [...nodes, ...handed],
    inputCount,
    outputs: outputs.map((edge, index) => places.get(index) ?? edge),
  };
}
