/** What a worker is sent of a version of the weights: in which form, from which memory, and how long that memory is held. */
import { weightsParts, type WireWeights } from "../src/models/exchange.js";
import { sliceOf } from "../src/models/shards.js";
import { toFrames } from "../src/protocol/frames.js";
import type { Weights } from "../src/protocol/wire.js";
import type { Aggregator, ShardLengths, TrainingState } from "./aggregator.js";
import type { PackedWeights } from "./packed-weights.js";

/**
 * From the state's own memory; θq alone, θk follows at the worker; in bfloat16; as the difference from the version before, in bfloat16
 * too.
 */
export type Form = "whole" | "query" | "bfloat16" | "difference";

/** A version on its way to a worker. */
export interface Sending {
  readonly version: number;
  readonly form: Form;
}

/** What decides in which form a worker gets a version. */
export interface Recipient {
  /** version that it has said to have; −1: none yet */
  readonly holds: number;
  /** whether it takes bfloat16 where that loses nothing */
  readonly takesBfloat16: boolean;
  /** at which whole weights have reached it, in bytes a second; null: not known */
  readonly bandwidth: number | null;
}

/** A bucket as it is sent. */
export interface BucketMessage {
  readonly weights: Weights;
  readonly frames: readonly Uint8Array[];
}

export class WeightsOut {
  constructor(
    private readonly runId: string,
    private readonly layout: ShardLengths,
    private readonly aggregator: Aggregator,
    private readonly packed: PackedWeights,
    private readonly wire: WireWeights,
  ) {}

  /** Whether a worker that takes bfloat16 is sent it. */
  get rounds(): boolean {
    return this.wire !== "fp32";
  }

  /** How the version after `version` is sent while it is made. */
  formFor({ holds, takesBfloat16, bandwidth }: Recipient, version: number): Form {
    if (!takesBfloat16) return holds === version ? "query" : "whole";
    if (holds !== version || this.wire === "bf16") return "bfloat16";
    return this.wire === "delta" || this.packed.pays(bandwidth) ? "difference" : "bfloat16";
  }

  /** What is sent lies in memory that is not written until `release`: the worker has it, or is gone. */
  hold(state: TrainingState, form: Form): Sending {
    if (isPacked(form)) this.packed.hold(state.version);
    else this.aggregator.hold(state);
    return { version: state.version, form };
  }

  release({ version, form }: Sending): void {
    if (isPacked(form)) this.packed.release(version);
    else this.aggregator.release(version);
  }

  /** The version that was made holds what the one before does. */
  skipped(version: number): void {
    this.packed.skipped(version);
  }

  /** What `use` makes of the state as a worker has it. @param rounded whether it was sent it in bfloat16 */
  asHeld<Result>(state: TrainingState, rounded: boolean, use: (state: TrainingState) => Result): Result {
    return rounded ? this.packed.withRounded(state, (weights) => use({ ...state, ...weights })) : use(state);
  }

  /**
   * One bucket of a version that is held. ZeroMQ sends from where it lies.
   * @param keyMomentum m by which θk follows where it is not sent
   */
  message(of: TrainingState, bucket: number, form: Form, keyMomentum: number | null): BucketMessage {
    const header = { runId: this.runId, version: of.version, bucket };
    if (!isPacked(form)) {
      const isFollowed = form === "query";
      const place = this.aggregator.buckets[bucket];
      const parts = weightsParts(this.layout, place, bucket, isFollowed).map(({ name }) =>
        name === "buffers" ? of.queryBuffers : sliceOf(of[name], place),
      );
      return { weights: { ...header, keyMomentum: isFollowed ? keyMomentum : null }, frames: toFrames(...parts) };
    }
    const { written, differs } =
      form === "difference" ? this.packed.difference(of, bucket) : this.packed.whole(of, bucket);
    const values = written.vector.subarray(0, written.length);
    const frames = toFrames(values, ...(bucket === 0 ? [this.packed.buffers(of)] : []));
    return { weights: { ...header, bfloat16: true, difference: differs ? written.length : null }, frames };
  }
}

function isPacked(form: Form): boolean {
  return form === "bfloat16" || form === "difference";
}
