/** Tensors in nested objects and arrays, as steps take and give them, told apart into a list and the shape around it. */
import { tf, type Tensor } from "../tensorflow.js";

/** Tensors, null, and objects or arrays of such. */
export type TensorTree = Tensor | null | readonly TensorTree[] | { readonly [key: string]: TensorTree };

/** The tree with a number for each tensor: its place in the list. JSON. */
export type TreeShape = number | null | readonly TreeShape[] | { readonly [key: string]: TreeShape };

/** @param leaves is filled with the tree's tensors, in the order of its keys and entries */
export function flatten(tree: TensorTree, leaves: Tensor[]): TreeShape {
  if (tree === null) return null;
  if (tree instanceof tf.Tensor) return leaves.push(tree) - 1;
  if (isList(tree)) return tree.map((entry) => flatten(entry, leaves));
  return Object.fromEntries(Object.entries(tree).map(([key, entry]) => [key, flatten(entry, leaves)]));
}

export function unflatten(shape: TreeShape, leaves: readonly Tensor[]): TensorTree {
  if (shape === null) return null;
  if (typeof shape === "number") return leaves[shape];
  if (isList(shape)) return shape.map((entry) => unflatten(entry, leaves));
  return Object.fromEntries(Object.entries(shape).map(([key, entry]) => [key, unflatten(entry, leaves)]));
}

/** Numbers of the tensors under a key of the tree's, in their order. */
export function leavesUnder(shape: TreeShape, key: string): readonly number[] {
  const leaves = (part: TreeShape): number[] => {
    if (part === null) return [];
    return typeof part === "number" ? [part] : Object.values(part).flatMap(leaves);
  };
  const isTree = typeof shape === "object" && shape !== null && !isList(shape);
  return leaves((isTree ? shape[key] : undefined) ?? null);
}

/** Tensors of a tree. */
export function countOf(shape: TreeShape): number {
  if (shape === null) return 0;
  if (typeof shape === "number") return 1;
  const entries: readonly TreeShape[] = Object.values(shape);
  return entries.reduce<number>((sum, entry) => sum + countOf(entry), 0);
}

/**
 * The tensors of another tree of the same shape, in the same order, whatever the order of its keys.
 * @param leaves is filled
 * @throws Error where the tree has another shape
 */
export function collect(shape: TreeShape, tree: TensorTree | undefined, leaves: Tensor[]): void {
  const mismatch = () => new Error("a compiled step was given inputs of another structure than it was compiled with");
  if (shape === null) {
    if (tree !== null) throw mismatch();
  } else if (typeof shape === "number") {
    if (!(tree instanceof tf.Tensor)) throw mismatch();
    leaves[shape] = tree;
  } else {
    if (typeof tree !== "object" || tree === null || tree instanceof tf.Tensor) throw mismatch();
    const entries = tree as Readonly<Record<string, TensorTree | undefined>>;
    for (const [key, entry] of Object.entries(shape)) collect(entry, entries[key], leaves);
  }
}

function isList<T>(value: readonly T[] | { readonly [key: string]: T }): value is readonly T[] {
  return Array.isArray(value);
}
