/**
 * Mixed precision as a pass (Micikevicius et al. 2018; bfloat16 needs no loss scaling): what is bound by arithmetic or by
 * the size of activations runs in bfloat16; what sums many values or takes exponentials stays in float32. Within one
 * operation oneDNN and cuDNN add up in float32 either way.
 */
import { DTYPE, type Edge, type Graph, type Node } from "./graph.js";

/** Positions of those inputs and outputs that are of the operation's type `T`. */
interface Typed {
  readonly inputs: readonly number[] | "all";
  readonly outputs: readonly number[] | "all";
}

const FIRST: Typed = { inputs: [0], outputs: [0] };
const ALL: Typed = { inputs: "all", outputs: "all" };

/** Always in bfloat16. Batch norm keeps its parameters and statistics in float32 (its type `U`). */
const LEADING: Readonly<Record<string, Typed>> = {
  Conv2D: ALL,
  Conv2DBackpropInput: { inputs: [1, 2], outputs: [0] },
  Conv2DBackpropFilter: { inputs: [0, 2], outputs: [0] },
  MatMul: ALL,
  BatchMatMulV2: ALL,
  FusedBatchNormV3: FIRST,
  FusedBatchNormGradV3: { inputs: [0, 1], outputs: [0] },
};

/** In bfloat16 where an activation that they are given is: they move or compare values, or add two. */
const FOLLOWING: Readonly<Record<string, Typed>> = {
  Add: ALL,
  AddV2: ALL,
  Relu: ALL,
  ReluGrad: ALL,
  PadV2: { inputs: [0, 2], outputs: [0] },
  Slice: FIRST,
  Reshape: FIRST,
  Transpose: FIRST,
  SplitV: { inputs: [0], outputs: "all" },
  ConcatV2: ALL,
  MaxPool: ALL,
  MaxPoolGrad: ALL,
};

/** @returns a graph with the same inputs and outputs, float32 as before */
export function toBfloat16(graph: Graph): Graph {
  const lowering = new Lowering(graph);
  graph.nodes.forEach((node, index) => {
    lowering.take(node, index);
  });
  const outputs = graph.outputs.map((edge) => lowering.as(lowering.originalType(edge), edge));
  return { nodes: lowering.nodes, inputCount: graph.inputCount, outputs };
}

class Lowering {
  /** of the new graph */
  readonly nodes: Node[] = [];
  private readonly numbers: number[] = [];
  /** edge of the old graph, and type → edge of the new one: each conversion is made once */
  private readonly forms = new Map<string, Edge>();

  constructor(private readonly graph: Graph) {}

  originalType({ node, output }: Edge): number {
    return this.graph.nodes[node].outputs[output].dtype;
  }

  /** The next node of the old graph, as it is or in bfloat16. */
  take(node: Node, index: number): void {
    const typed = this.typedIfLow(node);
    const isLow = (positions: Typed["inputs"] | undefined, position: number) =>
      positions === "all" || positions?.includes(position) === true;
    const outputs = node.outputs.map((type, position) =>
      isLow(typed?.outputs, position) ? { ...type, dtype: DTYPE.bfloat16 } : type,
    );
    const number = this.add({
      ...node,
      attributes: typed === null ? node.attributes : { ...node.attributes, T: { type: DTYPE.bfloat16 } },
      inputs: node.inputs.map((edge, position) =>
        this.as(isLow(typed?.inputs, position) ? this.lowType(edge) : this.originalType(edge), edge),
      ),
      after: node.after.map((before) => this.numbers[before]),
      outputs,
    });
    this.numbers.push(number);
    outputs.forEach(({ dtype }, output) =>
      this.forms.set(formOf({ node: index, output }, dtype), { node: number, output }),
    );
  }

  /** The edge's value as `dtype`, converted if need be. */
  as(dtype: number, edge: Edge): Edge {
    const there = this.forms.get(formOf(edge, dtype));
    if (there !== undefined) return there;
    const source = dtype === DTYPE.float32 ? DTYPE.bfloat16 : DTYPE.float32;
    const from = this.forms.get(formOf(edge, source));
    if (from === undefined) throw new Error(`node ${String(edge.node)} is used before its place in the list`);
    const attributes = { SrcT: { type: source }, DstT: { type: dtype } };
    const { shape } = this.nodes[from.node].outputs[from.output];
    const outputs = [{ dtype, shape }];
    const cast = {
      operation: "Cast",
      attributes,
      inputs: [from],
      after: [],
      outputs,
      fullPrecision: false,
      value: null,
    };
    const form = { node: this.add(cast), output: 0 };
    this.forms.set(formOf(edge, dtype), form);
    return form;
  }

  /** Where a list mixes types (axes of ConcatV2), only float32 is lowered. */
  private lowType(edge: Edge): number {
    const type = this.originalType(edge);
    return type === DTYPE.float32 ? DTYPE.bfloat16 : type;
  }

  private typedIfLow({ operation, attributes, inputs, fullPrecision }: Node): Typed | null {
    const type = attributes["T"];
    if (fullPrecision || type === undefined || !("type" in type) || type.type !== DTYPE.float32) return null;
    if (operation in LEADING) return LEADING[operation];
    // What an operation computed in bfloat16; a value that was merely converted for somebody else stays what it is.
    const isActivation = (edge: Edge) =>
      this.nodes[this.numbers[edge.node]].outputs[edge.output].dtype === DTYPE.bfloat16;
    return operation in FOLLOWING && inputs.some(isActivation) ? FOLLOWING[operation] : null;
  }

  private add(node: Node): number {
    this.nodes.push(node);
    return this.nodes.length - 1;
  }
}

function formOf({ node, output }: Edge, dtype: number): string {
  return `${String(node)}:${String(output)}:${String(dtype)}`;
}
