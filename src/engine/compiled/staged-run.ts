/** One run of a step that waits for other ranks: it stands still between its stages, and holds what later ones need. */
import { nodeBackend, type OutputMetadata } from "../backend.js";
import { tf, type Tensor } from "../tensorflow.js";
import { nameOf, resultName } from "./saved-model.js";
import type { ShownVector, Stage } from "./stages.js";

/** What `tf.node.loadSavedModel` gives. */
type SavedModel = Awaited<ReturnType<typeof tf.node.loadSavedModel>>;

/** Values that a rank shows at the end of a stage. */
export function shownLength(shows: readonly ShownVector[]): number {
  return shows.reduce((sum, { length }) => sum + length, 0);
}

export class StagedRun<Out> {
  /** ids of what later stages need, by name. The binding's own tensors: tfjs knows fewer dtypes */
  private readonly held = new Map<string, number>();
  /** ids of the step's inputs */
  private readonly inputs: readonly number[];
  private stage = 0;
  private spentMs = 0;

  /**
   * @param inputs of the step, unwritten and kept by the caller until it is over
   * @param results tensors that the step gives
   */
  constructor(
    private readonly model: SavedModel,
    private readonly stages: readonly Stage[],
    inputs: readonly Tensor[],
    private readonly results: number,
    private readonly resultOf: (results: readonly Tensor[]) => Out,
  ) {
    this.inputs = nodeBackend().getInputTensorIds(inputs);
  }

  /** Stages that have been run. */
  get done(): number {
    return this.stage;
  }

  /** ms spent inside TensorFlow so far */
  get engineMs(): number {
    return this.spentMs;
  }

  /**
   * Runs the next stage, which is not the last.
   * @param block float32 `[W, n]`: what all ranks have shown at the end of the stage before; null at the beginning
   * @returns float32 `[n]`: what this rank shows
   */
  show(block: Float32Array | null): Float32Array {
    const { shows } = this.stages[this.stage];
    const made = this.run(
      block,
      shows.map(({ from }) => nameOf(from)),
    );
    const { binding } = nodeBackend();
    const shown = new Float32Array(shownLength(shows));
    let offset = 0;
    for (const { id } of made) {
      const values = binding.tensorDataSync(id) as Float32Array;
      shown.set(values, offset);
      offset += values.length;
      binding.deleteTensor(id);
    }
    return shown;
  }

  /** Runs the last stage. The caller disposes of what it gives. @param block as of `show` */
  finish(block: Float32Array | null): Out {
    const names = Array.from({ length: this.results }, (_, index) => resultName(index));
    const backend = nodeBackend();
    return this.resultOf(this.run(block, names).map((made) => backend.createOutputTensor(made)));
  }

  /** The whole step, as if every rank were like this one. */
  alone(): Out {
    let block: Float32Array | null = null;
    for (const { shows } of this.stages.slice(0, -1)) {
      const [ranks = 1] = shows.map(({ ranks: number }) => number);
      const shown: Float32Array = this.show(block);
      block = new Float32Array(ranks * shown.length);
      for (let rank = 0; rank < ranks; rank++) block.set(shown, rank * shown.length);
    }
    return this.finish(block);
  }

  /** Lets go of everything that it holds. */
  dispose(): void {
    const { binding } = nodeBackend();
    for (const id of this.held.values()) binding.deleteTensor(id);
    this.held.clear();
  }

  /** @param names of what is wanted beside the values that are kept */
  private run(block: Float32Array | null, names: readonly string[]): OutputMetadata[] {
    const { binding } = nodeBackend();
    const start = performance.now();
    if (block !== null) this.take(block);
    const { takes, keeps, lets } = this.stages[this.stage];
    const ids = takes.map((edge) => this.held.get(nameOf(edge)) ?? this.inputs[edge.node]);
    const kept = keeps.map(nameOf);
    const session = (this.model as unknown as { readonly sessionId: number }).sessionId;
    const made = binding.runSavedModel(session, ids, takes.map(nameOf).join(), [...kept, ...names].join());
    kept.forEach((name, index) => this.held.set(name, made[index].id));
    for (const edge of lets) {
      const name = nameOf(edge);
      const id = this.held.get(name);
      if (id !== undefined) binding.deleteTensor(id);
      this.held.delete(name);
    }
    this.stage++;
    this.spentMs += performance.now() - start;
    return made.slice(kept.length);
  }

  /** What all ranks have shown, each vector as the graph takes it. */
  private take(block: Float32Array): void {
    const { shows } = this.stages[this.stage - 1];
    const width = shownLength(shows);
    const { binding } = nodeBackend();
    let offset = 0;
    for (const { to, length, ranks } of shows) {
      const values = new Float32Array(ranks * length);
      for (let rank = 0; rank < ranks; rank++) {
        const start = rank * width + offset;
        values.set(block.subarray(start, start + length), rank * length);
      }
      this.held.set(nameOf(to), binding.createTensor([ranks, length], binding.TF_FLOAT, values));
      offset += length;
    }
  }
}
