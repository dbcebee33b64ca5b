/** Partial sums of a step's gradients, of the ranks that one device or one worker has executed, until they are handed out. */
import { gradientSlice, roundedLength, type GradientType } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { parameterShards, sliceOf, type ParameterShard, type Slice } from "../src/models/shards.js";
import { SumTree, type TreeNode, type VectorArena } from "../src/optim/index.js";
import type { HandedOut } from "./session-ports.js";

/** For which connection, and which step, sums are gathered: those of others are not mixed with them. */
export interface Occasion {
  readonly link: number;
  readonly step: number;
}

/** Where a shard's slice of a partial sum goes. */
export interface Exit {
  readonly slice: Slice;
  /** of θ that lie in it */
  readonly tensors: number;
  /** shared with whoever goes on with it; null: it travels */
  readonly memory: Float32Array | null;
}

export class PartialSums {
  /** values of a sum, the first ones, that are rounded to bfloat16 */
  readonly rounded: number;
  private readonly tree: SumTree;
  private occasion: Occasion = { link: -1, step: -1 };
  private readonly handedOut: Float32Array[] = [];
  private shards: readonly ParameterShard[] = [];

  /** @param arena of the vectors that are added */
  constructor(
    private readonly layout: ParameterLayout,
    worldSize: number,
    gradients: GradientType,
    private readonly arena: VectorArena,
  ) {
    this.rounded = roundedLength(layout, gradients);
    this.tree = new SumTree(worldSize, arena, this.rounded);
  }

  get isEmpty(): boolean {
    return this.tree.isEmpty;
  }

  /**
   * Another occasion begins, so the last one is over: whatever was sent of it has arrived, or nobody waits for it.
   * @returns false where it is the one asked for that is over
   */
  open({ link, step }: Occasion): boolean {
    const { occasion } = this;
    if (link === occasion.link && step === occasion.step) return true;
    if (link < occasion.link || (link === occasion.link && step < occasion.step)) return false;
    this.occasion = { link, step };
    this.tree.clear();
    for (const vector of this.handedOut.splice(0)) this.arena.release(vector);
    return true;
  }

  /** @param sum as it is added: rounded, where it is. It belongs to the sums from then on. */
  add(node: TreeNode, sum: Float32Array): void {
    this.tree.add(node, sum);
  }

  /** A vector that is handed out as it is: it comes back to the arena when another occasion begins. */
  lend(vector: Float32Array): void {
    this.handedOut.push(vector);
  }

  /** How θ is cut for so many aggregators: a step asks several times, and their number seldom changes. */
  cut(count: number): readonly ParameterShard[] {
    if (this.shards.length !== count) this.shards = parameterShards(this.layout, count);
    return this.shards;
  }

  /** @param memories shared with whoever owns each shard; null: its slices travel */
  exits(memories: readonly (Float32Array | null)[]): readonly Exit[] {
    const { length } = memories;
    return this.cut(length).map((shard, index) => {
      return { slice: gradientSlice(shard), tensors: shard.layout.parameters.length, memory: memories[index] };
    });
  }

  /** What lies in shared memory is one node's sum: the others travel. They are unwritten until another occasion begins. */
  handOut(exits: readonly Exit[]): readonly HandedOut[] {
    const nodes = this.tree.takeAll();
    this.handedOut.push(...nodes.map(({ sum }) => sum));
    return nodes.map(({ node, sum }, index) => ({
      node,
      slices: exits.map(({ slice, memory }) => {
        if (memory === null || index > 0) return this.travelling(sum, slice);
        memory.set(sliceOf(sum, slice));
        return null;
      }),
    }));
  }

  /** A slice of a sum as it travels: what is rounded as bfloat16, the rest as it is. */
  private travelling(sum: Float32Array, { offset, size }: Slice): readonly Float32Array[] {
    const rounded = Math.max(0, Math.min(size, this.rounded - offset));
    if (rounded === 0) return [sum.subarray(offset, offset + size)];
    const codes = this.arena.packed(sum.subarray(offset, offset + rounded));
    this.handedOut.push(codes);
    return [codes, sum.subarray(offset + rounded, offset + size)];
  }
}
