/**
 * The seam between a method and everything else: one logical rank's part of a step as functions of tensors, which are run
 * eagerly or recorded and compiled. A method is one page that gives an `Objective`, and a line in `objectives.ts`.
 */
import type { Tensor1D, Tensor2D } from "../engine/index.js";
import type { Exchanged, RankInput, Shown, StepResult } from "./rank.js";

/** What a rank has before anything is exchanged. */
export interface ShowInput extends RankInput {
  /** float32 `[B]` classes of the samples; null where the method uses none */
  readonly labels: Tensor1D | null;
}

export interface StepInput extends ShowInput {
  /** `[K, D]`, or `[K, D + 1]` with labels as a last column; null where the method has no queue */
  readonly queue: Tensor2D | null;
  /** int32 `[B]` each: the order in which shuffling BN within the rank shows its key views, and its inverse. Null: theirs */
  readonly keyShuffle: { readonly order: Tensor1D; readonly inverse: Tensor1D } | null;
  /** what all ranks have shown; null where nothing is exchanged */
  readonly exchanged: Exchanged | null;
}

export interface Objective {
  /** What the rank shows the others before gradients are computed; not called where nothing is exchanged. */
  show(input: ShowInput): Shown;
  /** Loss and gradients of θq for the rank's own samples. */
  step(input: StepInput): StepResult;
}

/** @throws Error where a method is not given what it calls for: a mistake of the program, not of its user */
export function given<T>(value: T | null, name: string): T {
  if (value === null) throw new Error(`the method needs ${name}`);
  return value;
}
