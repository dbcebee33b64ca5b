/**
 * Compiled steps: a step in plain tfjs is recorded once, turned into one TensorFlow graph, and from then on is one call.
 */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { handOverAddon } from "../../native/hand-over.js";
import { nodeBackend } from "../backend.js";
import { tf, type Tensor } from "../tensorflow.js";
import { codeDigest, GraphCache, graphCacheFolder, sha256, type Located } from "./cache.js";
import { filterGradientsAsProducts } from "./filter-gradient.js";
import { isSameNode, prune, type Graph } from "./graph.js";
import { handingOver } from "./handing-over.js";
import { toBfloat16 } from "./mixed-precision.js";
import { isStaged, merged } from "./merge.js";
import { CannotCompile, record } from "./record.js";
import { encodeSavedModel } from "./saved-model.js";
import { shownLength, StagedRun } from "./staged-run.js";
import { staged, type Stage } from "./stages.js";
import { collect, countOf, flatten, leavesUnder, unflatten, type TensorTree, type TreeShape } from "./tree.js";

export type Precision = "fp32" | "bf16";

export interface CompileOptions {
  /** fp32: the same numbers as eagerly. bf16: activations and products of matrices in bfloat16 */
  readonly precision: Precision;
  /**
   * Whatever the step depends on beside its code and the shapes of its inputs, such as a config: equal identities mean
   * equal graphs.
   */
  readonly identity: string;
  /** keys of lists of results that leave the graph while it runs, for the table (`HandOver`) whose number the input `table` is */
  readonly handsOver?: readonly string[];
  /** folder that graphs are kept in; null: record anew */
  readonly cache?: string | null;
}

/**
 * @param step takes nothing but its inputs and gives nothing but tensors; no value may be read back to JavaScript within
 * @param example inputs of the dtypes and shapes that every run will have
 * @throws CannotCompile naming the operation that does not fit into a graph, or that the device has no kernel for
 */
export async function compile<In extends TensorTree, Out extends TensorTree>(
  step: (inputs: In) => Out,
  example: In,
  options: CompileOptions,
): Promise<CompiledStep<In, Out>> {
  const { precision, handsOver, cache: cacheFolder = graphCacheFolder() } = options;
  // TensorFlow must know the operation before it reads a graph.
  if (handsOver !== undefined) handOverAddon();
  const inputs: Tensor[] = [];
  const inputShape = flatten(example, inputs);
  const cache = new GraphCache(cacheFolder);
  const key = await keyOf(example, options);
  const kept = await cache.find(key);
  if (kept !== null) {
    try {
      return await CompiledStep.load<In, Out>(kept, inputShape, example, null);
    } catch (error) {
      // Taken away meanwhile, or of no use here: recorded anew, with the step's own words for what is wrong.
      if (!(error instanceof CannotCompile)) throw error;
    }
  }
  const { recorded, outputShape } = recordTwice(step, inputShape, inputs);
  const computed = precision === "bf16" ? lowered(recorded) : recorded;
  const whole =
    handsOver === undefined
      ? computed
      : handingOver(computed, {
          results: handsOver.flatMap((key) => leavesUnder(outputShape, key)),
          table: leavesUnder(inputShape, "table")[0],
          inOrder: !isStaged(computed) && !nodeBackend().isUsingGpuDevice,
        });
  const { graph, stages } = isStaged(whole) ? staged(prune(merged(whole))) : { graph: whole, stages: null };
  const stored = await cache.store(key, encodeSavedModel(graph), { outputShape, stages });
  return CompiledStep.load<In, Out>(stored, inputShape, example, graph);
}

function lowered(graph: Graph): Graph {
  const low = toBfloat16(graph);
  return nodeBackend().isUsingGpuDevice ? low : filterGradientsAsProducts(low);
}

/** Whether `compile` with the same arguments will find the graph rather than record the step. */
export async function isKept(
  example: TensorTree,
  { cache = graphCacheFolder(), ...options }: CompileOptions,
): Promise<boolean> {
  return (await new GraphCache(cache).find(await keyOf(example, options))) !== null;
}

/** Names a graph by everything that it depends on. */
async function keyOf(
  example: TensorTree,
  { precision, identity, handsOver }: Omit<CompileOptions, "cache">,
): Promise<string> {
  const inputs: Tensor[] = [];
  const shape = flatten(example, inputs);
  const types = inputs.map((input) => [input.dtype, input.shape]);
  const { binding, isUsingGpuDevice } = nodeBackend();
  const versions = [isUsingGpuDevice, tf.version["tfjs"], binding.TF_Version, await codeDigest()];
  return sha256(JSON.stringify({ types, shape, identity, precision, handsOver: handsOver ?? null, versions }));
}

/** @throws CannotCompile also where the two records differ: something in the step changes by itself */
function recordTwice<In extends TensorTree, Out extends TensorTree>(
  step: (inputs: In) => Out,
  inputShape: TreeShape,
  inputs: readonly Tensor[],
): { recorded: Graph; outputShape: TreeShape } {
  let outputShape: TreeShape = null;
  const once = () => {
    const graph = record((given) => {
      const results: Tensor[] = [];
      outputShape = flatten(step(unflatten(inputShape, given) as In), results);
      return results;
    }, inputs);
    return prune(graph);
  };
  const [first, second] = [once(), once()];
  const place = second.nodes.findIndex((node, index) => !isSameNode(node, first.nodes[index]));
  if (place !== -1 || first.nodes.length !== second.nodes.length) {
    const user = second.nodes.find(({ inputs: edges }) => edges.some(({ node }) => node === place));
    const name = (user ?? second.nodes.at(place))?.operation ?? "an operation";
    throw new CannotCompile(`${name} is given a value that changes from run to run by itself: pass it in as an input`);
  }
  return { recorded: second, outputShape };
}

/** What `tf.node.loadSavedModel` gives. */
type SavedModel = Awaited<ReturnType<typeof tf.node.loadSavedModel>>;

export class CompiledStep<In extends TensorTree, Out extends TensorTree> {
  private spentMs = 0;

  private constructor(
    private readonly model: SavedModel,
    private readonly inputShape: TreeShape,
    private readonly outputShape: TreeShape,
    private readonly stages: readonly Stage[] | null,
    /** whether it was found in the cache */
    readonly cached: boolean,
  ) {}

  /** @param graph null where it was kept from an earlier time */
  static async load<In extends TensorTree, Out extends TensorTree>(
    { folder, step, isTemporary }: Located,
    inputShape: TreeShape,
    example: In,
    graph: Graph | null,
  ): Promise<CompiledStep<In, Out>> {
    let compiled: CompiledStep<In, Out> | null = null;
    try {
      const model = await tf.node.loadSavedModel(folder);
      compiled = new CompiledStep<In, Out>(model, inputShape, step.outputShape, step.stages, graph === null);
      // The first run optimises the graph, and finds out whether the device has a kernel for everything in it.
      if (step.stages === null) tf.dispose(compiled.run(example) as never);
      else tf.dispose(compiled.begin(example).alone() as never);
      return compiled;
    } catch (cause) {
      compiled?.dispose();
      throw refused(cause, graph);
    } finally {
      if (isTemporary) await rm(dirname(folder), { recursive: true, force: true });
    }
  }

  /** ms spent inside TensorFlow by the last run */
  get engineMs(): number {
    return this.spentMs;
  }

  /** Values that a rank shows at the end of each stage but the last; empty where it waits for nobody. */
  get rounds(): readonly number[] {
    return (this.stages ?? []).slice(0, -1).map(({ shows }) => shownLength(shows));
  }

  /** Begins a step that waits for other ranks. The inputs are unwritten, and kept, until it is over. */
  begin(inputs: In): StagedRun<Out> {
    if (this.stages === null) throw new Error("a step that waits for nobody is run in one go");
    return new StagedRun(this.model, this.stages, this.leavesOf(inputs), countOf(this.outputShape), (results) => {
      return unflatten(this.outputShape, results) as Out;
    });
  }

  private leavesOf(inputs: In): Tensor[] {
    const leaves: Tensor[] = [];
    collect(this.inputShape, inputs, leaves);
    return leaves;
  }

  /** Runs the graph. The caller disposes of what it gives. */
  run(inputs: In): Out {
    const leaves = this.leavesOf(inputs);
    const start = performance.now();
    const outputs = this.model.predict(leaves) as unknown as Tensor | Tensor[];
    this.spentMs = performance.now() - start;
    return unflatten(this.outputShape, Array.isArray(outputs) ? outputs : [outputs]) as Out;
  }

  dispose(): void {
    this.model.dispose();
  }
}

/** TensorFlow speaks of nodes by the names that they have in the graph, in its first line or behind; the reader knows operations. */
function refused(cause: unknown, graph: Graph | null): CannotCompile {
  const message = cause instanceof Error ? cause.message : String(cause);
  const [line = ""] = message.split("\n");
  const nameOf = (number: string) => graph?.nodes[Number(number)]?.operation ?? `n${number}`;
  const [, first] = /\bn(\d+)\b/.exec(message) ?? [];
  const named = line.replace(/\bn(\d+)\b/g, (_, number: string) => nameOf(number));
  return new CannotCompile(first === undefined ? named : `${nameOf(first)}: ${named}`, { cause });
}
