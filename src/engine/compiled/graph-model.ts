/** A graph as a tfjs GraphModel: TensorFlow's graph as JSON, with constants apart (tfjs-converter 4, `compiled_api.ts` and `weights_loader.ts`). */
import { DTYPE, type AttributeValue, type Edge, type Graph, type Node, type TensorType } from "./graph.js";

/** A constant's place among the weights, which lie one after another in this order. */
export interface WeightSpec {
  readonly name: string;
  readonly shape: number[];
  readonly dtype: "float32" | "int32" | "bool";
}

/** What `model.json` says, and the weights. Plain JSON, apart from the bytes. */
export interface GraphModel {
  readonly modelTopology: { readonly node: readonly object[]; readonly versions: { readonly producer: number } };
  readonly signature: { readonly inputs: object; readonly outputs: object };
  readonly weightSpecs: WeightSpec[];
  readonly weights: Uint8Array;
}

/** Version of the meaning of operations: TensorFlow 2.9's. */
const PRODUCER = 1087;

/** TensorFlow's names of dtypes, and tfjs's where it has weights of such. */
const DTYPES: Readonly<Record<number, { readonly name: string; readonly weight: WeightSpec["dtype"] | null }>> = {
  [DTYPE.float32]: { name: "DT_FLOAT", weight: "float32" },
  [DTYPE.float64]: { name: "DT_DOUBLE", weight: null },
  [DTYPE.int32]: { name: "DT_INT32", weight: "int32" },
  [DTYPE.bool]: { name: "DT_BOOL", weight: "bool" },
  [DTYPE.bfloat16]: { name: "DT_BFLOAT16", weight: null },
};

/**
 * @param graph with one input and one output
 * @param names of these two, as nodes and in the signature
 * @throws RangeError where a constant has a dtype that tfjs lacks
 */
export function graphModel(graph: Graph, names: { readonly input: string; readonly output: string }): GraphModel {
  const nameOf = ({ node, output }: Edge): string => {
    const name = node < graph.inputCount ? names.input : `n${node}`;
    return output === 0 ? name : `${name}:${output}`;
  };
  const constants = graph.nodes.flatMap((node, index) =>
    node.value === null ? [] : [{ ...weightSpec(node, nameOf({ node: index, output: 0 })), value: node.value }],
  );
  const [result] = graph.outputs;
  const [input, output] = [graph.nodes[0].outputs[0], graph.nodes[result.node].outputs[result.output]];
  // The output is fetched through a node of its own, so that its name says what it is.
  const fetch = {
    ...{ name: names.output, op: "Identity", input: [nameOf(result)] },
    attr: { T: attribute({ type: output.dtype }) },
  };
  const nodes = graph.nodes.map((node, index) => ({
    name: nameOf({ node: index, output: 0 }),
    op: node.operation,
    input: [...node.inputs.map(nameOf), ...node.after.map((before) => `^${nameOf({ node: before, output: 0 })}`)],
    attr: Object.fromEntries(Object.entries(node.attributes).map(([name, value]) => [name, attribute(value)])),
  }));
  return {
    modelTopology: { node: [...nodes, fetch], versions: { producer: PRODUCER } },
    signature: {
      inputs: { [names.input]: tensorInfo(names.input, input) },
      outputs: { [names.output]: tensorInfo(names.output, output) },
    },
    weightSpecs: constants.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
    weights: Buffer.concat(constants.map(({ value }) => value)),
  };
}

function weightSpec({ outputs: [{ dtype, shape }] }: Node, name: string): WeightSpec {
  const { weight } = dtypeOf(dtype);
  if (weight === null) throw new RangeError(`tfjs has no weights of dtype ${dtypeOf(dtype).name}`);
  return { name, shape: [...shape], dtype: weight };
}

function dtypeOf(dtype: number): (typeof DTYPES)[number] {
  const known = DTYPES[dtype];
  if (known === undefined) throw new RangeError(`dtype ${dtype} has no name`);
  return known;
}

function tensorInfo(name: string, { dtype, shape }: TensorType): object {
  return { name: `${name}:0`, dtype: dtypeOf(dtype).name, tensorShape: shapeJson(shape) };
}

/** 64-bit whole numbers are strings in protobuf's JSON. */
function shapeJson(shape: readonly number[]): object {
  return { dim: shape.map((size) => ({ size: String(size) })) };
}

function attribute(value: AttributeValue): object {
  if ("type" in value) return { type: dtypeOf(value.type).name };
  if ("bool" in value) return { b: value.bool };
  if ("shape" in value) return { shape: shapeJson(value.shape) };
  if ("int" in value)
    return typeof value.int === "number" ? { i: String(value.int) } : { list: { i: value.int.map(String) } };
  if ("float" in value) return typeof value.float === "number" ? { f: value.float } : { list: { f: value.float } };
  const encoded = (text: string) => Buffer.from(text).toString("base64");
  return typeof value.string === "string"
    ? { s: encoded(value.string) }
    : { list: { s: value.string.map((entry) => encoded(entry)) } };
}
