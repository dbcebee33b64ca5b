/**
 * An aggregator owns a slice of the parameters (today: all of them): it sums the ranks' gradients by the fixed tree,
 * applies the optimizer in fp32 and lets the key encoder follow. No socket in here.
 */
import { BATCH_NORM_MOMENTUM } from "../src/models/constants.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { isNode, momentumUpdate, sgdStep, SumTree, type DecaySlice, type TreeNode } from "../src/optim/index.js";
import { sharedFloats } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";

export interface AggregatorOptions {
  readonly layout: ParameterLayout;
  readonly worldSize: number;
  readonly sgdMomentum: number;
  readonly weightDecay: number;
  readonly decayNormAndBias: boolean;
  /** m of the key encoder's momentum update */
  readonly keyMomentum: number;
}

/**
 * Everything that training changes, the queue aside. The vectors of one version are never written again: each update
 * makes new ones, so what is on its way to a slow worker, or being written to disk, stays what it was.
 */
export interface TrainingState {
  /** number of updates applied */
  readonly version: number;
  /** θq and θk, float32 `[P]` */
  readonly query: Float32Array;
  readonly key: Float32Array;
  /** SGD's velocity, float32 `[P]` */
  readonly velocity: Float32Array;
  /** running batch-norm statistics of either encoder, float32 `[bufferCount]` */
  readonly queryBuffers: Float32Array;
  readonly keyBuffers: Float32Array;
}

/** Length in values of the vector that a rank sends: gradients, then the statistics of the query and the key encoder. */
export function gradientLength(layout: ParameterLayout): number {
  return layout.parameterCount + 2 * layout.bufferCount;
}

export class Aggregator {
  private readonly slices: readonly DecaySlice[];
  private tree: SumTree;
  /** gradients that came twice, or for another step: counted, never used */
  ignored = 0;

  constructor(
    private readonly options: AggregatorOptions,
    private current: TrainingState,
  ) {
    this.tree = new SumTree(options.worldSize);
    this.slices = options.layout.parameters.map(({ offset, size, role }) => ({
      offset,
      size,
      decay: options.decayNormAndBias || role === "convolution" || role === "dense",
    }));
  }

  get state(): TrainingState {
    return this.current;
  }

  /**
   * Takes the sum of one node of step `step`'s tree; a second copy, or one of another step, changes nothing.
   * @param read makes the vector, called only where it is wanted
   * @returns the ranks held of the open step; null where nothing changed
   * @throws WireError where the node is not in the tree
   */
  accept(step: number, node: TreeNode, read: () => Float32Array): readonly number[] | null {
    if (!isNode(node, this.options.worldSize)) {
      throw new WireError(`gradient of node ${String(node.level)}/${String(node.index)}, which no rank is under`);
    }
    if (step !== this.current.version || this.tree.covers(node)) {
      this.ignored++;
      return null;
    }
    this.tree.add(node, read());
    return this.tree.ranks();
  }

  /**
   * One optimizer update from the summed gradients; opens the next step.
   * @throws Error where ranks are missing
   */
  apply(learningRate: number): TrainingState {
    const { layout, worldSize, sgdMomentum, weightDecay, keyMomentum } = this.options;
    const { version, query, key, velocity, queryBuffers, keyBuffers } = this.current;
    const sum = this.tree.root();
    if (sum === null) throw new Error(`step ${String(version)} was applied with ranks missing`);

    const { parameterCount, bufferCount } = layout;
    const scale = 1 / worldSize;
    const next: TrainingState = {
      version: version + 1,
      query: sharedFloats(parameterCount),
      key: sharedFloats(parameterCount),
      velocity: sharedFloats(parameterCount),
      queryBuffers: sharedFloats(bufferCount),
      keyBuffers: sharedFloats(bufferCount),
    };
    next.velocity.set(velocity);
    const hyper = { learningRate, momentum: sgdMomentum, weightDecay };
    sgdStep(query, sum.subarray(0, parameterCount), scale, next.velocity, next.query, this.slices, hyper);
    momentumUpdate(key, next.query, keyMomentum, next.key);
    const statistics = (start: number) => sum.subarray(start, start + bufferCount);
    const keep = 1 - BATCH_NORM_MOMENTUM;
    momentumUpdate(queryBuffers, statistics(parameterCount), keep, next.queryBuffers, scale);
    momentumUpdate(keyBuffers, statistics(parameterCount + bufferCount), keep, next.keyBuffers, scale);

    this.tree = new SumTree(worldSize);
    this.current = next;
    return next;
  }
}
