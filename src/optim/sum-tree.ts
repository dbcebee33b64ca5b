/**
 * The fixed binary tree that sums a step's vectors over the ranks. Node (level, index) covers the ranks
 * [index·2^level, min((index+1)·2^level, W)) and is its left child plus its right, or its left alone where no rank lies
 * under the right. Whoever computes a node gets the same bits, so who holds which ranks does not show in the sum.
 */

import type { VectorArena } from "./arena.js";

export interface TreeNode {
  readonly level: number;
  readonly index: number;
}

/** Level of the root: the least `l` with 2^l ≥ W. */
export function rootLevel(worldSize: number): number {
  return Math.ceil(Math.log2(worldSize));
}

/** Ranks that a node covers, `[first, end)`. */
export function ranksUnder({ level, index }: TreeNode, worldSize: number): { first: number; end: number } {
  const width = 2 ** level;
  return { first: index * width, end: Math.min((index + 1) * width, worldSize) };
}

/** Whether the node exists in the tree of `worldSize` ranks. */
export function isNode({ level, index }: TreeNode, worldSize: number): boolean {
  return (
    Number.isInteger(level) &&
    Number.isInteger(index) &&
    level >= 0 &&
    level <= rootLevel(worldSize) &&
    index >= 0 &&
    index * 2 ** level < worldSize
  );
}

/** Number of the root. */
const ROOT = 1;

/**
 * One step's sums: vectors go in, siblings merge as soon as both are there, at most log₂ W + 1 vectors are held. All are of
 * one arena, which gets back each that is merged into another.
 */
export class SumTree {
  /** by the node's number */
  private readonly held = new Map<number, { readonly node: TreeNode; readonly sum: Float32Array }>();
  private readonly rootLevel: number;

  constructor(
    readonly worldSize: number,
    private readonly arena: VectorArena,
    /** values of a vector, the first ones, that are rounded to bfloat16 at every node; those that are added are rounded already */
    private readonly rounded = 0,
  ) {
    this.rootLevel = rootLevel(worldSize);
  }

  /**
   * Takes a node's sum. The vector belongs to the tree from then on. A node whose ranks are all held already changes
   * nothing: the bits would be the same.
   * @returns whether it was new
   */
  add(node: TreeNode, sum: Float32Array): boolean {
    if (this.covers(node)) {
      this.arena.release(sum);
      return false;
    }
    this.dropDescendants(node);
    this.place(node, sum);
    return true;
  }

  /** Whether all ranks of the node are held. */
  covers(node: TreeNode): boolean {
    for (let number = this.numberOf(node); number >= ROOT; number >>= 1) if (this.held.has(number)) return true;
    return false;
  }

  /** The sums held now, none of which can be merged further. */
  nodes(): readonly { readonly node: TreeNode; readonly sum: Float32Array }[] {
    return [...this.held.values()];
  }

  get isEmpty(): boolean {
    return this.held.size === 0;
  }

  /** Sum over all ranks, or null while some are missing. */
  root(): Float32Array | null {
    return this.held.get(ROOT)?.sum ?? null;
  }

  /** Hands the sums held out, and their vectors to the caller; starts anew. */
  takeAll(): readonly { readonly node: TreeNode; readonly sum: Float32Array }[] {
    const nodes = this.nodes();
    this.held.clear();
    return nodes;
  }

  /** Gives every vector back and starts anew. */
  clear(): void {
    for (const { sum } of this.held.values()) this.arena.release(sum);
    this.held.clear();
  }

  /** As in a binary heap: 1 is the root, and n's children are 2n and 2n + 1. */
  private numberOf({ level, index }: TreeNode): number {
    return 2 ** (this.rootLevel - level) + index;
  }

  private place(node: TreeNode, sum: Float32Array): void {
    const number = this.numberOf(node);
    if (number === ROOT) {
      this.held.set(number, { node, sum });
      return;
    }
    const { level, index } = node;
    const parent = { level: level + 1, index: index >> 1 };
    if (!isNode({ level, index: index ^ 1 }, this.worldSize)) {
      this.place(parent, sum);
      return;
    }
    const sibling = number ^ 1;
    const other = this.held.get(sibling);
    if (other === undefined) {
      this.held.set(number, { node, sum });
      return;
    }
    this.held.delete(sibling);
    // Addition of two numbers commutes bit for bit; only the grouping matters, and the tree fixes it.
    this.arena.addTo(sum, other.sum, this.rounded);
    this.arena.release(other.sum);
    this.place(parent, sum);
  }

  private dropDescendants(node: TreeNode): void {
    const { first, end } = ranksUnder(node, this.worldSize);
    for (const [number, held] of this.held) {
      const under = ranksUnder(held.node, this.worldSize);
      if (under.first >= first && under.end <= end) {
        this.held.delete(number);
        this.arena.release(held.sum);
      }
    }
  }
}
