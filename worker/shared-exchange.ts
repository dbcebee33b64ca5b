/** The worker's end of a segment of memory that it shares with an aggregator on the same machine. */
import { segmentBytes } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { WireError } from "../src/protocol/wire-error.js";
import { SharedSegment, type SegmentAddress } from "../src/transport/index.js";

export class SharedExchange {
  private state: "offered" | "taken" | "closed" = "offered";
  /** step of the gradient that lies there; the aggregator has read it once weights of a later version come */
  private gradientStep = -1;
  /** the engine's thread has the descriptor, which must stay this file's until it is done */
  private isBeingWritten = false;

  private constructor(private readonly segment: SharedSegment) {}

  /** @returns null where this system has no memory to share */
  static offer(layout: ParameterLayout): SharedExchange | null {
    const segment = SharedSegment.create(segmentBytes(layout));
    return segment === null ? null : new SharedExchange(segment);
  }

  /** For the engine's thread, which writes gradients there. */
  get file(): number {
    return this.segment.file;
  }

  get address(): SegmentAddress {
    return this.segment.address;
  }

  /**
   * Weights have come by it, so the offer is taken, and nobody else needs its name.
   * @throws WireError where it was declined before
   */
  readWeights(parts: readonly { readonly position: number; readonly vector: Float32Array }[]): void {
    if (this.state === "closed") throw new WireError("weights in memory that is no longer shared");
    if (this.state === "offered") this.segment.unlink();
    this.state = "taken";
    for (const { position, vector } of parts) this.segment.read(position, vector);
  }

  /** Weights have come by themselves: the aggregator is on another machine. */
  decline(): void {
    if (this.state === "offered") this.close();
  }

  /**
   * Claims the gradient's place for a step.
   * @returns false where it must travel otherwise: nobody shares the memory, or another of the same step lies there
   */
  claimGradient(step: number): boolean {
    if (this.state !== "taken" || step === this.gradientStep) return false;
    this.gradientStep = step;
    this.isBeingWritten = true;
    return true;
  }

  /** The engine's thread has written what was claimed. */
  gradientWritten(): void {
    this.isBeingWritten = false;
    if (this.state === "closed") this.segment.close();
  }

  close(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.segment.unlink();
    if (!this.isBeingWritten) this.segment.close();
  }
}
