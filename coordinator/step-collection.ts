/** What the ranks of the open step report beside their gradients: embeddings, keys for the queue, loss, timings. */
import { fromFrames } from "../src/protocol/frames.js";
import { METRICS, NO_METRICS, type RankMetrics } from "../src/protocol/rank-metrics.js";
import { WireError } from "../src/protocol/wire-error.js";

export class StepCollection {
  /** float32 `[W·B, D]` in rank order */
  readonly keys: Float32Array;
  /** float32 `[W, E]` each: what the ranks have shown each other in the rounds that are over */
  readonly blocks: Float32Array[] = [];
  /** that of the open round, and the ranks that are in it */
  private block: Float32Array;
  private readonly shown = new Set<number>();
  private readonly metrics: (RankMetrics | null)[];

  constructor(
    readonly step: number,
    private readonly worldSize: number,
    /** values that one rank adds to the queue (B·D) */
    private readonly keysPerRank: number,
    /** values that it shows the others in each round (E) */
    private readonly rounds: readonly number[],
  ) {
    this.keys = new Float32Array(worldSize * keysPerRank);
    this.block = this.newBlock();
    this.metrics = Array.from({ length: worldSize }, () => null);
  }

  /**
   * Takes one rank's result; a second copy changes nothing.
   * @param frames float32 `[B, D]`
   * @throws WireError where the rank does not exist or the keys have another size
   */
  accept(rank: number, metrics: RankMetrics, frames: readonly Uint8Array[]): void {
    this.check(rank);
    if (this.metrics[rank] !== null) return;
    fromFrames(frames, partOf(this.keys, rank, this.keysPerRank));
    this.metrics[rank] = metrics;
  }

  /**
   * Takes what one rank shows in the open round; a second copy changes nothing.
   * @param frames float32 `[E]`
   * @throws WireError where the rank does not exist or shows something of another size
   */
  acceptEmbeddings(rank: number, frames: readonly Uint8Array[]): void {
    this.check(rank);
    if (this.shown.has(rank)) return;
    fromFrames(frames, partOf(this.block, rank, this.rounds[this.blocks.length] ?? 0));
    this.shown.add(rank);
  }

  /** The open round is over, and its block is not written again; the next one opens. */
  endRound(): void {
    this.blocks.push(this.block);
    this.block = this.newBlock();
    this.shown.clear();
  }

  private newBlock(): Float32Array {
    return new Float32Array(this.worldSize * (this.rounds[this.blocks.length] ?? 0));
  }

  /** Means over the ranks, summed in rank order. */
  means(): RankMetrics {
    const means: Record<keyof RankMetrics, number> = { ...NO_METRICS };
    const present = this.metrics.filter((entry) => entry !== null);
    for (const metrics of present) for (const name of METRICS) means[name] += metrics[name];
    for (const name of METRICS) means[name] /= Math.max(1, present.length);
    return means;
  }

  private check(rank: number): void {
    if (rank >= this.worldSize) throw new WireError(`a result of rank ${String(rank)}, which does not exist`);
  }
}

function partOf(values: Float32Array, rank: number, length: number): Float32Array {
  return values.subarray(rank * length, (rank + 1) * length);
}
