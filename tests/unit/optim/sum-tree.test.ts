import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isNode, ranksUnder, rootLevel, SumTree, VectorArena, type TreeNode } from "../../../src/optim/index.js";

const LENGTH = 6;

/** Vectors whose sum depends on the order of additions. */
function rankVector(rank: number): number[] {
  return Array.from({ length: LENGTH }, (_, i) => Math.fround(Math.sin(rank * 7.1 + i) * 10 ** ((rank + i) % 8)));
}

function leaf(arena: VectorArena, rank: number): Float32Array {
  const vector = arena.take(LENGTH);
  vector.set(rankVector(rank));
  return vector;
}

/** The tree's definition, as a recursion. */
function reference(level: number, index: number, worldSize: number): number[] | null {
  if (index * 2 ** level >= worldSize) return null;
  if (level === 0) return rankVector(index);
  const left = reference(level - 1, 2 * index, worldSize);
  const right = reference(level - 1, 2 * index + 1, worldSize);
  return left === null || right === null ? left : left.map((value, i) => Math.fround(value + right[i]));
}

const reachable = fc.integer({ min: 1, max: 37 }).chain((worldSize) =>
  fc.record({
    worldSize: fc.constant(worldSize),
    order: fc.shuffledSubarray(
      Array.from({ length: worldSize }, (_, rank) => rank),
      { minLength: worldSize },
    ),
    owners: fc.array(fc.nat({ max: 4 }), { minLength: worldSize, maxLength: worldSize }),
  }),
);

describe("the summation tree", () => {
  it("gives the same bits whoever holds which ranks, and in whatever order they come", () => {
    fc.assert(
      fc.property(reachable, ({ worldSize, order, owners }) => {
        const arena = new VectorArena();
        const root = new SumTree(worldSize, arena);
        for (let owner = 0; owner <= 4; owner++) {
          const worker = new SumTree(worldSize, arena);
          for (const rank of order.filter((each) => owners[each] === owner)) {
            worker.add({ level: 0, index: rank }, leaf(arena, rank));
          }
          for (const { node, sum } of worker.takeAll()) root.add(node, sum);
        }
        expect([...(root.root() ?? [])]).toEqual(reference(rootLevel(worldSize), 0, worldSize));
      }),
      { numRuns: 300 },
    );
  });

  it("ignores a second copy, whole or in part", () => {
    const arena = new VectorArena();
    const tree = new SumTree(4, arena);
    for (const rank of [0, 1, 0, 1]) tree.add({ level: 0, index: rank }, leaf(arena, rank));
    expect(tree.nodes().map(({ node }) => node)).toEqual([{ level: 1, index: 0 }]);
    const pair = leaf(arena, 0);
    arena.addTo(pair, leaf(arena, 1));
    expect(tree.add({ level: 1, index: 0 }, pair)).toBe(false);
    for (const rank of [2, 3]) tree.add({ level: 0, index: rank }, leaf(arena, rank));
    expect([...(tree.root() ?? [])]).toEqual(reference(2, 0, 4));
  });

  it("takes a subtree in the place of the leaves that it holds already", () => {
    const arena = new VectorArena();
    const tree = new SumTree(4, arena);
    tree.add({ level: 0, index: 0 }, leaf(arena, 0));
    const pair = leaf(arena, 0);
    arena.addTo(pair, leaf(arena, 1));
    expect(tree.add({ level: 1, index: 0 }, pair)).toBe(true);
    expect(tree.nodes().map(({ node }) => node)).toEqual([{ level: 1, index: 0 }]);
  });

  it("holds log2(W) + 1 vectors at most, when ranks come in order", () => {
    const arena = new VectorArena();
    const tree = new SumTree(64, arena);
    for (let rank = 0; rank < 64; rank++) {
      tree.add({ level: 0, index: rank }, leaf(arena, rank));
      expect(tree.nodes().length).toBeLessThanOrEqual(7);
    }
    expect(tree.root()).not.toBeNull();
  });

  it("knows its nodes", () => {
    const nodes: [TreeNode, boolean][] = [
      [{ level: 0, index: 4 }, true],
      [{ level: 0, index: 5 }, false],
      [{ level: 2, index: 1 }, true],
      [{ level: 3, index: 0 }, true],
      [{ level: 3, index: 1 }, false],
      [{ level: 4, index: 0 }, false],
      [{ level: 0.5, index: 0 }, false],
      [{ level: 0, index: -1 }, false],
    ];
    for (const [node, there] of nodes) expect(isNode(node, 5), JSON.stringify(node)).toBe(there);
    expect(ranksUnder({ level: 2, index: 1 }, 5)).toEqual({ first: 4, end: 5 });
    expect(rootLevel(1)).toBe(0);
  });
});
