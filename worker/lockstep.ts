/**
 * Ranks that wait for each other in the midst of a step. One that has shown something stands still, with all that its backward pass will
 * need, until what the others have shown is there; one that is taken over from a lost worker, or for which there was no room, begins
 * anew and catches up.
 */
import { tf, type CompiledStep, type StagedRun } from "../src/engine/index.js";
import type { Place } from "./compute-thread.js";
import type { LockstepInputs, RankResult } from "./rank-step.js";

/** A stretch of time, in ms, by the wall clock. */
export interface Span {
  readonly from: number;
  readonly ms: number;
}

interface Standing {
  readonly step: number;
  readonly run: StagedRun<RankResult>;
  /** when it was worked on */
  readonly spans: Span[];
  /** lets go of the rank's own inputs */
  readonly dispose: () => void;
}

/** What a rank begins with. The weights and the queue in it are the caller's. */
export type Begin = () => LockstepInputs;

export class Lockstep {
  /** float32 `[W, E]` each: what all ranks have shown in the rounds of a step that are over */
  private shown: { readonly step: number; readonly blocks: Float32Array[] } = { step: -1, blocks: [] };
  private readonly standing = new Map<number, Standing>();

  /** @param most ranks that stand at once, the one that moves among them: each has the activations of a whole step */
  constructor(
    private readonly compiled: CompiledStep<LockstepInputs, RankResult>,
    private readonly most: number,
  ) {}

  /** Values that a rank shows in each round. */
  get rounds(): readonly number[] {
    return this.compiled.rounds;
  }

  /** What all ranks have shown in a round. */
  take(step: number, round: number, block: Float32Array): void {
    if (step !== this.shown.step || round === 0) this.shown = { step, blocks: [] };
    this.shown.blocks[round] = block;
  }

  /**
   * Whether the place can still be reached. Where another step has begun meanwhile nobody waits for it: whoever asked has lost its
   * connection, or others were faster.
   */
  isOpen({ step, round }: Place): boolean {
    return round === 0 || (step === this.shown.step && this.shown.blocks.length >= round);
  }

  stands({ step, rank, round }: Place): boolean {
    const standing = this.standing.get(rank);
    return standing?.step === step && standing.run.done === round;
  }

  /**
   * @param place is open
   * @param begin not called where the rank stands still there
   * @returns float32 `[E]`
   */
  show(place: Place, begin: Begin): Float32Array {
    const [from, start] = [Date.now(), performance.now()];
    const { run, spans } = this.broughtTo(place, begin);
    const shown = run.show(this.shown.blocks[place.round - 1] ?? null);
    spans.push({ from, ms: performance.now() - start });
    return shown;
  }

  /** The last stage; the caller disposes of the result. Parameters as of `show`. @returns with it, when the rank was worked on before */
  finish(
    place: Place,
    begin: Begin,
  ): { readonly result: RankResult; readonly graphMs: number; readonly before: readonly Span[] } {
    const { run, spans } = this.broughtTo(place, begin);
    const result = run.finish(this.shown.blocks[place.round - 1] ?? null);
    this.drop(place.rank);
    return { result, graphMs: run.engineMs, before: spans };
  }

  /** Nobody stands any longer on the weights or the queue that there were. */
  clear(): void {
    for (const rank of [...this.standing.keys()]) this.drop(rank);
  }

  private broughtTo(place: Place, begin: Begin): Standing {
    const { step, rank, round } = place;
    const before = this.standing.get(rank);
    if (before !== undefined && this.stands(place)) return before;
    this.drop(rank);
    this.makeRoom();
    const inputs = begin();
    const { samples, labels, own } = inputs;
    const run = this.compiled.begin(inputs);
    const standing = {
      ...{ step, run, spans: [] },
      dispose: () => {
        tf.dispose([samples, labels, own] as never);
      },
    };
    this.standing.set(rank, standing);
    for (let past = 0; past < round; past++) run.show(this.shown.blocks[past - 1] ?? null);
    return standing;
  }

  /** The last that came goes: those before it are wanted first. */
  private makeRoom(): void {
    for (const rank of [...this.standing.keys()].reverse()) if (this.standing.size >= this.most) this.drop(rank);
  }

  private drop(rank: number): void {
    const standing = this.standing.get(rank);
    standing?.run.dispose();
    standing?.dispose();
    this.standing.delete(rank);
  }
}
