/**
 * On a CPU in bfloat16, the gradient of a wide convolution's filter as matrix products, one for each of the filter's
 * taps: dW[i, j] = xᵢⱼᵀ · dy, where xᵢⱼ is what of the input the tap sees. oneDNN 3.7 behind TensorFlow's thread pool reaches
 * 220 to 500 GFLOP/s with its own kernel there, and 600 to 750 with the products (measured with 64 images: 512 channels at
 * 4×4 14.5 → 6.5 ms, 256 at 8×8 9.6 → 7.0, stride 2 from 256 channels to 4×4 11.0 → 3.5 ms; narrower ones, and float32, are
 * better off as they are).
 */
import { DTYPE, type Edge, type Graph, type Node, type TensorType } from "./graph.js";

/** Input channels from which on the products win, by stride. */
const LEAST_CHANNELS = new Map([
  [1, 128],
  [2, 32],
]);

export function filterGradientsAsProducts(graph: Graph): Graph {
  const nodes: Node[] = [];
  const numbers: number[] = [];
  const moved = ({ node, output }: Edge): Edge => ({ node: numbers[node], output });
  const build = new Builder(nodes);
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(moved);
    const convolution = wideConvolution(node);
    const fits = convolution !== null && build.isDivisible(inputs[0], convolution.stride);
    const gradient = fits ? asProducts(build, inputs, node.outputs[0].shape, convolution) : null;
    numbers.push(gradient?.node ?? nodes.push({ ...node, inputs, after: node.after.map((n) => numbers[n]) }) - 1);
  }
  return { nodes, inputCount: graph.inputCount, outputs: graph.outputs.map(moved) };
}

/** The convolution that a node is the filter gradient of; null where the node is better off as it is, or something else. */
function wideConvolution({ operation, attributes, outputs }: Node): { stride: number; isSame: boolean } | null {
  if (operation !== "Conv2DBackpropFilter" || outputs[0].dtype !== DTYPE.bfloat16) return null;
  const [height, width, channels] = outputs[0].shape;
  const { strides, padding } = attributes;
  if (!("int" in strides) || typeof strides.int === "number" || !("string" in padding)) return null;
  const [, stride, across] = strides.int;
  const isSame = padding.string === "SAME";
  const isPlain = height === width && height > 1 && stride === across && (stride === 1 ? height % 2 === 1 : !isSame);
  return isPlain && channels >= (LEAST_CHANNELS.get(stride) ?? Infinity) ? { stride, isSame } : null;
}

/** @param inputs of Conv2DBackpropFilter: x `[N, H', W', C]`, the filter's sizes, dy `[N, H, W, K]` @returns `[h, w, C, K]` */
function asProducts(
  build: Builder,
  [x, , dy]: readonly Edge[],
  filter: readonly number[],
  { stride, isSame }: { stride: number; isSame: boolean },
): Edge {
  const [side, , channels, filters] = filter;
  const [count, height, width] = build.shapeOf(dy);
  // Not before dy is there, or the executor would cut the pieces in the forward pass and keep them all.
  build.after = dy.node;
  const padded = isSame ? build.pad(x, (side - 1) / 2) : x;
  // Each axis as blocks of `stride` positions, so that the positions that a tap sees are one slice.
  const [, down, across] = build.shapeOf(padded).map((size) => Math.floor(size / stride));
  const blocks = build.reshape(padded, [count, down, stride, across, stride, channels]);
  const rows = count * height * width;
  const upstream = build.reshape(dy, [rows, filters]);
  const taps: Edge[] = [];
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const begin = [0, Math.floor(i / stride), i % stride, Math.floor(j / stride), j % stride, 0];
      const seen = build.slice(blocks, begin, [count, height, 1, width, 1, channels]);
      taps.push(build.productTransposed(build.reshape(seen, [rows, channels]), upstream));
    }
  }
  return build.reshape(build.stack(taps), filter);
}

/** Adds operations on bfloat16 values. */
class Builder {
  /** node that must have run before those that are added */
  after = 0;

  constructor(private readonly nodes: Node[]) {}

  shapeOf({ node, output }: Edge): readonly number[] {
    return this.nodes[node].outputs[output].shape;
  }

  /** Whether height and width are multiples. */
  isDivisible(x: Edge, by: number): boolean {
    const [, height, width] = this.shapeOf(x);
    return height % by === 0 && width % by === 0;
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
    return this.push({ operation, attributes, inputs, outputs: [{ dtype: T, shape }], value: null }, [this.after]);
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

  private push(node: Omit<Node, "after" | "fullPrecision">, after: readonly number[] = []): Edge {
    return { node: this.nodes.push({ ...node, after, fullPrecision: false }) - 1, output: 0 };
  }
}
