/**
 * A step that waits for other ranks, cut into stages as a pass. A stage is everything that can be computed before the ranks have told each
 * other more: what does not depend on each other waits together, so two encoders side by side take as many rounds as one.
 */
import { ACROSS_RANKS, type Edge, type Graph, type Node } from "./graph.js";
import { HAND_OVER } from "./handing-over.js";

/** A vector that this rank shows at the end of a stage, `[n]`, and the placeholder that takes what all have shown, `[W, n]`. */
export interface ShownVector {
  readonly from: Edge;
  readonly to: Edge;
  /** W */
  readonly ranks: number;
  readonly length: number;
}

export interface Stage {
  /** inputs of the step, what others have shown, and values that earlier stages have kept */
  readonly takes: readonly Edge[];
  /** values for later stages */
  readonly keeps: readonly Edge[];
  /** empty in the last stage */
  readonly shows: readonly ShownVector[];
  /** values of earlier stages, and what others have shown, that no later stage takes */
  readonly lets: readonly Edge[];
}

export interface Staged {
  /** placeholders where the ranks tell each other something */
  readonly graph: Graph;
  readonly stages: readonly Stage[];
}

export function staged({ nodes, inputCount, outputs }: Graph): Staged {
  const stageOf: number[] = [];
  for (const { operation, inputs, after } of nodes) {
    const before = [...inputs.map(({ node }) => node), ...after].map((node) => stageOf[node]);
    stageOf.push(Math.max(0, ...before) + (operation === ACROSS_RANKS ? 1 : 0));
  }
  const count = Math.max(...stageOf) + 1;
  // Whoever wants it says where with the last stage.
  for (const [index, { operation }] of nodes.entries()) if (operation === HAND_OVER) stageOf[index] = count - 1;
  /** edges by name, with the stages that take them; the result is of the last one */
  const taken = new Map<string, { readonly edge: Edge; readonly by: Set<number> }>();
  const take = (edge: Edge, by: number) => {
    const name = `${String(edge.node)}/${String(edge.output)}`;
    const entry = taken.get(name) ?? { edge, by: new Set() };
    taken.set(name, { edge, by: entry.by.add(by) });
  };
  nodes.forEach(({ operation, inputs }, index) => {
    const stage = operation === ACROSS_RANKS ? stageOf[index] - 1 : stageOf[index];
    for (const edge of inputs) take(edge, stage);
  });
  for (const edge of outputs) take(edge, count - 1);
  const isConstant = ({ node }: Edge) => nodes[node].operation === "Const";
  const isInput = ({ node }: Edge) => node < inputCount;
  const isShown = ({ node }: Edge) => nodes[node].operation === ACROSS_RANKS;
  const values = [...taken.values()].filter(({ edge }) => !isConstant(edge));
  const stages = Array.from({ length: count }, (_, stage): Stage => {
    const isMadeHere = ({ node }: Edge) => stageOf[node] === stage;
    return {
      takes: values
        .filter(({ edge, by }) => by.has(stage) && (isInput(edge) || isShown(edge) || !isMadeHere(edge)))
        .map(({ edge }) => edge),
      keeps: values
        .filter(({ edge, by }) => !isInput(edge) && !isShown(edge) && isMadeHere(edge) && Math.max(...by) > stage)
        .map(({ edge }) => edge),
      shows: nodes.flatMap((node, index) =>
        node.operation === ACROSS_RANKS && stageOf[index] === stage + 1 ? [shownVector(node, index)] : [],
      ),
      lets: values
        .filter(({ edge, by }) => !isInput(edge) && (isShown(edge) || !isMadeHere(edge)) && Math.max(...by) === stage)
        .map(({ edge }) => edge),
    };
  });
  // What has run in an earlier stage has run.
  const cut = nodes.map((node, index): Node => {
    if (node.operation === ACROSS_RANKS) return { ...node, operation: "Placeholder", inputs: [], after: [] };
    return { ...node, after: node.after.filter((before) => stageOf[before] === stageOf[index]) };
  });
  return { graph: { nodes: cut, inputCount, outputs }, stages };
}

function shownVector({ inputs: [from], outputs: [type] }: Node, index: number): ShownVector {
  const [ranks, length] = type.shape;
  return { from, to: { node: index, output: 0 }, ranks, length };
}
