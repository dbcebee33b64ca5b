/** Memory that a worker shares with an aggregator on the same machine: its gradient, and the aggregator's weights. */
import { gradientLength, slotLength, slotVectors } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { VectorArena } from "../src/optim/index.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { SegmentOffer } from "../src/protocol/wire.js";
import { pagedBytes, SharedSegment, type SegmentAddress } from "../src/transport/index.js";
import type { PlacedWeights } from "./incoming-weights.js";

export class SharedExchange {
  private state: "offered" | "taken" | "closed" = "offered";
  /** step of the gradient that lies there; the aggregator has read it once weights of a later version come */
  private gradientStep = -1;
  /** the engine's thread has the place, which must stay the segment's until it is done */
  private isBeingWritten = false;
  private weights: SharedSegment | null = null;
  /** the aggregator's slots, as far as they have been mapped */
  private readonly slots = new Map<number, Float32Array>();

  /** the gradient's place, for the engine's thread, which fills it */
  readonly gradient: Float32Array;

  private constructor(
    private readonly layout: ParameterLayout,
    private readonly segment: SharedSegment,
    private readonly arena: VectorArena,
  ) {
    this.gradient = arena.map(gradientLength(layout), segment.file, segment.position(0));
  }

  /**
   * @param arena where the gradient and the aggregator's weights are mapped
   * @returns null where this system has no memory to share
   */
  static offer(layout: ParameterLayout, arena: VectorArena): SharedExchange | null {
    const segment = SharedSegment.create(pagedBytes(gradientLength(layout)));
    return segment === null ? null : new SharedExchange(layout, segment, arena);
  }

  get address(): SegmentAddress {
    return this.segment.address;
  }

  /**
   * The offer is taken.
   * @param theirs the aggregator's memory
   * @throws WireError where it cannot be opened: the aggregator sees our memory, and we do not see its
   */
  take(theirs: SegmentOffer): void {
    const { process: maker, file, token } = theirs;
    const isAddress = typeof maker === "number" && typeof file === "number" && token instanceof Uint8Array;
    this.weights =
      isAddress && this.state === "offered" ? SharedSegment.open({ process: maker, file, token }, 0) : null;
    if (this.weights === null) throw new WireError("the aggregator's memory cannot be shared");
    this.state = "taken";
  }

  /** Weights have come by themselves, and nobody has taken the offer: the aggregator is on another machine, or has no room. */
  decline(): void {
    if (this.state === "offered") this.close();
  }

  /**
   * The weights in a slot of the aggregator's, where they lie.
   * @throws WireError where there is no such slot
   */
  weightsIn(slot: number): PlacedWeights {
    const length = slotLength(this.layout);
    const at = slot * pagedBytes(length);
    const { weights } = this;
    if (weights?.holds(at + pagedBytes(length)) !== true) throw new WireError(`weights in slot ${String(slot)}`);
    const values = this.slots.get(slot) ?? this.arena.map(length, weights.file, weights.position(at));
    this.slots.set(slot, values);
    return { ...slotVectors(this.layout, values), place: { segment: weights.address, at } };
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
    if (this.state === "closed") this.letGo();
  }

  /** Weights that lie in the aggregator's memory are gone with it. */
  close(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.weights?.close();
    for (const place of this.slots.values()) this.arena.unmap(place);
    this.slots.clear();
    if (!this.isBeingWritten) this.letGo();
  }

  private letGo(): void {
    this.arena.unmap(this.gradient);
    this.segment.close();
  }
}
