/** Common subexpressions as a pass: what a step computes twice from the same values is computed once. */
import { ACROSS_RANKS, type Edge, type Graph, type Node } from "./graph.js";

/** Two of these are never the same. */
const APART = new Set(["Placeholder", "Timestamp"]);

/** @returns a graph with the same inputs and outputs, in which no two nodes do the same with the same */
export function merged({ nodes, inputCount, outputs }: Graph): Graph {
  const kept: Node[] = [];
  const numbers: number[] = [];
  const known = new Map<string, number>();
  const moved = ({ node, output }: Edge): Edge => ({ node: numbers[node], output });
  for (const node of nodes) {
    const next = { ...node, inputs: node.inputs.map(moved), after: node.after.map((before) => numbers[before]) };
    const name = APART.has(node.operation) ? null : nameOf(next);
    const twin = name === null ? undefined : known.get(name);
    const number = twin ?? kept.push(next) - 1;
    if (name !== null) known.set(name, number);
    numbers.push(number);
  }
  return { nodes: kept, inputCount, outputs: outputs.map(moved) };
}

function nameOf({ value, ...rest }: Node): string {
  return JSON.stringify(rest) + (value === null ? "" : Buffer.from(value).toString("latin1"));
}

/** Whether the step is one that waits for other ranks. */
export function isStaged({ nodes }: Graph): boolean {
  return nodes.some(({ operation }) => operation === ACROSS_RANKS);
}
