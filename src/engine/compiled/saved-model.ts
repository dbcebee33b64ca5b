/** A graph as a TensorFlow SavedModel: the bytes of a `saved_model.pb`. */
import protobuf from "protobufjs";
import { type AttributeValue, type Edge, type Graph, type Node, type TensorType } from "./graph.js";

/**
 * The part of TensorFlow's saved_model.proto, meta_graph.proto, graph.proto, node_def.proto, attr_value.proto and
 * tensor.proto that is written here; names and numbers are TensorFlow's.
 */
const SCHEMA = `
  syntax = "proto3";
  message SavedModel { int64 saved_model_schema_version = 1; repeated MetaGraphDef meta_graphs = 2; }
  message MetaGraphDef {
    MetaInfoDef meta_info_def = 1;
    GraphDef graph_def = 2;
    map<string, SignatureDef> signature_def = 5;
  }
  message MetaInfoDef { repeated string tags = 4; }
  message GraphDef { repeated NodeDef node = 1; VersionDef versions = 4; }
  message VersionDef { int32 producer = 1; }
  message NodeDef { string name = 1; string op = 2; repeated string input = 3; map<string, AttrValue> attr = 5; }
  message AttrValue {
    oneof value {
      ListValue list = 1; bytes s = 2; int64 i = 3; float f = 4; bool b = 5; int32 type = 6;
      TensorShapeProto shape = 7; TensorProto tensor = 8;
    }
  }
  message ListValue {
    repeated bytes s = 2; repeated int64 i = 3; repeated float f = 4;
  }
  message TensorShapeProto { repeated Dim dim = 2; }
  message Dim { int64 size = 1; }
  message TensorProto { int32 dtype = 1; TensorShapeProto tensor_shape = 2; bytes tensor_content = 4; }
  message SignatureDef { map<string, TensorInfo> inputs = 1; map<string, TensorInfo> outputs = 2; }
  message TensorInfo { string name = 1; int32 dtype = 2; TensorShapeProto tensor_shape = 3; }
`;

const savedModel = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType("SavedModel");

/** Version of the meaning of operations: TensorFlow 2.9's. Later ones read it. */
const PRODUCER = 1087;

/** What the signature calls inputs and outputs, by position. */
export interface SignatureNames {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/**
 * @param names left out: `i00000`, `o00000`, … by position, so that their order is that of their names
 * @returns the same bytes for the same graph
 */
export function encodeSavedModel(graph: Graph, names?: SignatureNames): Uint8Array {
  const { nodes, inputCount, outputs } = graph;
  const places = nodes.slice(0, inputCount).map((_, node) => ({ node, output: 0 }));
  // Outputs are fetched through nodes of their own, since one node may be asked for twice.
  const fetches = outputs.map((edge, index) => {
    const type = typeOf(graph, edge);
    const T = { type: type.dtype };
    return { name: resultName(index), op: "Identity", input: [nameOf(edge)], attr: { T } };
  });
  const content = {
    saved_model_schema_version: 1,
    meta_graphs: [
      {
        meta_info_def: { tags: ["serve"] },
        graph_def: { node: [...nodes.map(nodeDef), ...fetches], versions: { producer: PRODUCER } },
        signature_def: {
          serving_default: {
            inputs: signature("i", names?.inputs, places.map((edge) => [`${nameOf(edge)}:0`, typeOf(graph, edge)])), // prettier-ignore
            outputs: signature("o", names?.outputs, outputs.map((edge, index) => [`${resultName(index)}:0`, typeOf(graph, edge)])), // prettier-ignore
          },
        },
      },
    ],
  };
  return savedModel.encode(savedModel.fromObject(content)).finish();
}

/** What the graph's output of that number is called. */
export function resultName(index: number): string {
  return positional("o", index);
}

function positional(prefix: string, index: number): string {
  return prefix + String(index).padStart(5, "0");
}

function signature(
  prefix: string,
  names: readonly string[] | undefined,
  entries: readonly (readonly [string, TensorType])[],
): Record<string, object> {
  return Object.fromEntries(
    entries.map(([name, { dtype, shape }], index) => [
      names?.[index] ?? positional(prefix, index),
      { name, dtype, tensor_shape: shapeProto(shape) },
    ]),
  );
}

function typeOf({ nodes }: Graph, { node, output }: Edge): TensorType {
  return nodes[node].outputs[output];
}

/** What a node's output is called in the graph. */
export function nameOf({ node, output }: Edge): string {
  return output === 0 ? `n${String(node)}` : `n${String(node)}:${String(output)}`;
}

function nodeDef(node: Node, index: number): object {
  const attr = Object.fromEntries(Object.entries(node.attributes).map(([name, value]) => [name, attrValue(value)]));
  const [type] = node.outputs;
  return {
    name: nameOf({ node: index, output: 0 }),
    op: node.operation,
    input: [...node.inputs.map(nameOf), ...node.after.map((before) => `^n${String(before)}`)],
    attr: node.value === null ? attr : { ...attr, value: { tensor: tensorProto(type, node.value) } },
  };
}

function tensorProto({ dtype, shape }: TensorType, value: Uint8Array): object {
  return { dtype, tensor_shape: shapeProto(shape), tensor_content: value };
}

function shapeProto(shape: readonly number[]): object {
  return { dim: shape.map((size) => ({ size })) };
}

const text = new TextEncoder();

function attrValue(value: AttributeValue): object {
  if ("type" in value) return { type: value.type };
  if ("bool" in value) return { b: value.bool };
  if ("shape" in value) return { shape: shapeProto(value.shape) };
  if ("int" in value) return typeof value.int === "number" ? { i: value.int } : { list: { i: value.int } };
  if ("float" in value) return typeof value.float === "number" ? { f: value.float } : { list: { f: value.float } };
  return typeof value.string === "string"
    ? { s: text.encode(value.string) }
    : { list: { s: value.string.map((entry) => text.encode(entry)) } };
}
