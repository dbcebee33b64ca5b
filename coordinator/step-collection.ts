/** What the ranks of the open step report beside their gradients: keys for the queue, loss, similarities, timings. */
import { fromFrames } from "../src/protocol/frames.js";
import { WireError } from "../src/protocol/wire-error.js";

/** One rank's numbers, as its worker reports them. */
export interface RankMetrics {
  readonly loss: number;
  readonly accuracy: number;
  readonly positiveSimilarity: number;
  readonly negativeSimilarity: number;
  readonly loadMs: number;
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly exchangeMs: number;
  readonly graphMs: number;
}

export class StepCollection {
  /** float32 `[W·B, D]` in rank order */
  readonly keys: Float32Array;
  private readonly metrics: (RankMetrics | null)[];

  constructor(
    readonly step: number,
    private readonly worldSize: number,
    /** values that one rank adds to the queue: B·D */
    private readonly keysPerRank: number,
  ) {
    this.keys = new Float32Array(worldSize * keysPerRank);
    this.metrics = Array.from({ length: worldSize }, () => null);
  }

  /**
   * Takes one rank's result; a second copy changes nothing.
   * @param frames float32 `[B, D]`
   * @throws WireError where the rank does not exist or the keys have another size
   */
  accept(rank: number, metrics: RankMetrics, frames: readonly Uint8Array[]): void {
    if (rank >= this.worldSize) throw new WireError(`a result of rank ${String(rank)}, which does not exist`);
    if (this.metrics[rank] !== null) return;
    fromFrames(frames, this.keys.subarray(rank * this.keysPerRank, (rank + 1) * this.keysPerRank));
    this.metrics[rank] = metrics;
  }

  /** Means over the ranks, summed in rank order. */
  means(): RankMetrics {
    const present = this.metrics.filter((entry) => entry !== null);
    const mean = (of: (entry: RankMetrics) => number) =>
      present.reduce((sum, entry) => sum + of(entry), 0) / Math.max(1, present.length);
    return {
      loss: mean((entry) => entry.loss),
      accuracy: mean((entry) => entry.accuracy),
      positiveSimilarity: mean((entry) => entry.positiveSimilarity),
      negativeSimilarity: mean((entry) => entry.negativeSimilarity),
      loadMs: mean((entry) => entry.loadMs),
      forwardMs: mean((entry) => entry.forwardMs),
      backwardMs: mean((entry) => entry.backwardMs),
      exchangeMs: mean((entry) => entry.exchangeMs),
      graphMs: mean((entry) => entry.graphMs),
    };
  }
}
