/**
 * On a CPU in bfloat16, the gradient of a wide convolution's filter as matrix products, one for each of the filter's
 * taps: dW[i, j] = xᵢⱼᵀ · dy, where xᵢⱼ is the input shifted to the tap. oneDNN 3.7 behind TensorFlow's thread pool reaches
 * 300 to 500 GFLOP/s with its own kernel there, and 700 with the products (measured at 64×4×4×512 and 64×8×8×256; narrower
 * or strided convolutions, and float32, are better off as they are).
 */
import { DTYPE, type Edge, type Graph, type Node, type TensorType } from "./graph.js";

/** Input channels from which on the products win. */
const LEAST_CHANNELS = 256;

export function filterGradientsAsProducts(graph: Graph): Graph {
  const nodes: Node[] = [];
  const numbers: number[] = [];
  const moved = ({ node, output }: Edge): Edge => ({ node: numbers[node], output });
  const build = new Builder(nodes);
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(moved);
    const gradient = isWide(node) ? asProducts(build, inputs, node) : null;
    numbers.push(gradient?.node ?? nodes.push({ ...node, inputs, after: node.after.map((n) => numbers[n]) }) - 1);
  }
  return { nodes, inputCount: graph.inputCount, outputs: graph.outputs.map(moved) };
}

function isWide({ operation, attributes, outputs }: Node): boolean {
  if (operation !== "Conv2DBackpropFilter" || outputs[0].dtype !== DTYPE.bfloat16) return false;
  const [height, width, channels] = outputs[0].shape;
  const { strides, padding } = attributes;
  const isPlain =
    "int" in strides && String(strides.int) === "1,1,1,1" && "string" in padding && padding.string === "SAME";
  return isPlain && height === width && height % 2 === 1 && height > 1 && channels >= LEAST_CHANNELS;
}

/** @param inputs of Conv2DBackpropFilter: x `[N, H, W, C]`, the filter's sizes, dy `[N, H, W, K]` @returns `[h, w, C, K]` */
function asProducts(build: Builder, [x, , dy]: readonly Edge[], { outputs: [filter] }: Node): Edge {
  const [side, , channels, filters] = filter.shape;
  const [count, height, width] = build.shapeOf(x);
  const border = (side - 1) / 2;
  const rows = count * height * width;
  const padded = build.pad(x, border);
  const upstream = build.reshape(dy, [rows, filters]);
  const taps: Edge[] = [];
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const shifted = build.slice(padded, [0, i, j, 0], [count, height, width, channels]);
      taps.push(build.productTransposed(build.reshape(shifted, [rows, channels]), upstream));
    }
  }
  return build.reshape(build.stack(taps), filter.shape);
}

/** Adds operations on bfloat16 values. */
class Builder {
  constructor(private readonly nodes: Node[]) {}

  shapeOf({ node, output }: Edge): readonly number[] {
    return this.nodes[node].outputs[output].shape;
  }

  /** Zeros around height and width. */
  pad(x: Edge, border: number): Edge {
    const [count, height, width, channels] = this.shapeOf(x);
    const sides = this.integers([0, 0, border, border, border, border, 0, 0], [4, 2]);
    const shape = [count, height + 2 * border, width + 2 * border, channels];
    return this.add("Pad", [x, sides], { Tpaddings: DTYPE.int32 }, shape);
  }

  slice(x: Edge, begin: readonly number[], size: readonly number[]): Edge {
    return this.add("Slice", [x, this.integers(begin), this.integers(size)], { Index: DTYPE.int32 }, size);
  }

  reshape(x: Edge, shape: readonly number[]): Edge {
    return this.add("Reshape", [x, this.integers(shape)], { Tshape: DTYPE.int32 }, shape);
  }

  /** aᵀ·b of `[n, p]` and `[n, q]`: `[p, q]` */
  productTransposed(a: Edge, b: Edge): Edge {
    const [[, p], [, q]] = [this.shapeOf(a), this.shapeOf(b)];
    return this.add("MatMul", [a, b], {}, [p, q], { transpose_a: { bool: true }, transpose_b: { bool: false } });
  }

  /** One below another, along the first axis. */
  stack(parts: readonly Edge[]): Edge {
    const [height, ...rest] = this.shapeOf(parts[0]);
    const axis = this.integers([0], []);
    const shape = [height * parts.length, ...rest];
    return this.add("ConcatV2", [...parts, axis], { Tidx: DTYPE.int32 }, shape, { N: { int: parts.length } });
  }

  private add(
    operation: string,
    inputs: readonly Edge[],
    types: Readonly<Record<string, number>>,
    shape: readonly number[],
    others: Node["attributes"] = {},
  ): Edge {
    const T = DTYPE.bfloat16;
    const typed = Object.entries({ T, ...types }).map(([name, type]) => [name, { type }] as const);
    const attributes = { ...others, ...Object.fromEntries(typed) };
    return this.push({ operation, attributes, inputs, outputs: [{ dtype: T, shape }], value: null });
  }

  private integers(values: readonly number[], shape: readonly number[] = [values.length]): Edge {
    const type: TensorType = { dtype: DTYPE.int32, shape };
    const value = new Uint8Array(Int32Array.from(values).buffer);
    return this.push({
      operation: "Const",
      attributes: { dtype: { type: type.dtype } },
      inputs: [],
      outputs: [type],
      value,
    });
  }

  private push(node: Omit<Node, "after" | "fullPrecision">): Edge {
    return { node: this.nodes.push({ ...node, after: [], fullPrecision: false }) - 1, output: 0 };
  }
}
