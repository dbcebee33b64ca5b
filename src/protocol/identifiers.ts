/** Branded numbers and strings of the design's vocabulary, so that a rank is never passed where a step is meant. */

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** Index of an optimizer update, from 0. State "at step t" is the state after `t` updates. */
export type Step = Branded<number, "Step">;
/** Logical rank, `0 ≤ rank < worldSize`: the unit of data-parallel work. */
export type Rank = Branded<number, "Rank">;
/** Name that the coordinator gives to one connection of one worker process. */
export type WorkerId = Branded<string, "WorkerId">;
/** Name of a run: every message and every result carries it. */
export type RunId = Branded<string, "RunId">;

export const step = (value: number): Step => value as Step;
export const rank = (value: number): Rank => value as Rank;
export const workerId = (value: string): WorkerId => value as WorkerId;
export const runId = (value: string): RunId => value as RunId;
