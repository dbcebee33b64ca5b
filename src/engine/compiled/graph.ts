/**
 * A recorded step as a value: TensorFlow operations in the order in which they ran. Passes over it are functions from
 * graph to graph; `saved-model.ts` writes it in TensorFlow's own form.
 */

/** TensorFlow's `DataType` numbers, as far as steps use them. */
export const DTYPE = { float32: 1, float64: 2, int32: 3, bool: 10, bfloat16: 14 } as const;

/**
 * The one operation that TensorFlow does not have: from a vector of this rank, `[n]`, to those of all ranks, `[W, n]`. The graph is cut
 * here (`stages.ts`).
 */
export const ACROSS_RANKS = "AcrossRanks";

/** Value of an attribute, by kind. Numbers of a `type` are `DataType`s. */
export type AttributeValue =
  | { readonly type: number }
  | { readonly int: number | readonly number[] }
  | { readonly float: number | readonly number[] }
  | { readonly bool: boolean }
  | { readonly string: string | readonly string[] }
  | { readonly shape: readonly number[] };

export interface TensorType {
  readonly dtype: number;
  readonly shape: readonly number[];
}

/** One output of one node: `node` indexes the graph's list. */
export interface Edge {
  readonly node: number;
  readonly output: number;
}

export interface Node {
  /** TensorFlow's name of the operation, `Placeholder` and `Const` among them */
  readonly operation: string;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** edges from nodes that come earlier in the list */
  readonly inputs: readonly Edge[];
  /** nodes that must have run before, without giving a value */
  readonly after: readonly number[];
  readonly outputs: readonly TensorType[];
  /** stays in float32 whatever the precision */
  readonly fullPrecision: boolean;
  /** of a `Const`: its elements, little-endian */
  readonly value: Uint8Array | null;
}

export interface Graph {
  /** topologically sorted; the first `inputCount` are the placeholders, in the order of the step's inputs */
  readonly nodes: readonly Node[];
  readonly inputCount: number;
  /** what the step returns */
  readonly outputs: readonly Edge[];
}

/** The graph without nodes that no output needs. Placeholders stay, so that every step takes the same inputs. */
export function prune({ nodes, inputCount, outputs }: Graph): Graph {
  const needed = new Set(outputs.map(({ node }) => node));
  for (let index = nodes.length - 1; index >= 0; index--) {
    if (!needed.has(index)) continue;
    for (const { node } of nodes[index].inputs) needed.add(node);
    for (const node of nodes[index].after) needed.add(node);
  }
  const numbers = new Map<number, number>();
  const numberOf = (node: number): number => {
    const number = numbers.get(node);
    if (number === undefined) throw new Error(`node ${String(node)} is used before its place in the list`);
    return number;
  };
  const moved = ({ node, output }: Edge): Edge => ({ node: numberOf(node), output });
  const kept: Node[] = [];
  nodes.forEach((node, index) => {
    if (index >= inputCount && !needed.has(index)) return;
    numbers.set(index, kept.length);
    kept.push({ ...node, inputs: node.inputs.map(moved), after: node.after.map(numberOf) });
  });
  return { nodes: kept, inputCount, outputs: outputs.map(moved) };
}

/** Whether two nodes at the same place of two graphs do the same with the same. */
export function isSameNode(left: Node, right: Node | undefined): boolean {
  if (right === undefined || (left.value === null) !== (right.value === null)) return false;
  if (left.value !== null && right.value !== null && !Buffer.from(left.value).equals(right.value)) return false;
  return JSON.stringify({ ...left, value: null }) === JSON.stringify({ ...right, value: null });
}
