/** What a run's state machine knows, hears and asks for; what it decides is in `run-transition.ts`. */
import type { WorkerId } from "../src/protocol/identifiers.js";
import type { Work } from "./work.js";

/** What the machine must know of the run; fixed for the run. */
export interface RunPlan {
  readonly worldSize: number;
  readonly totalSteps: number;
  readonly minWorkers: number;
  /** interval of ticks, in ms */
  readonly heartbeatMs: number;
  /** silence after which a worker counts as dead, in ms */
  readonly deadAfterMs: number;
  /** quantile of recent times past twice which a rank is late */
  readonly lateQuantile: number;
  /** a checkpoint every so many steps; 0: only at the end */
  readonly checkpointEverySteps: number;
  /** kNN accuracy every so many steps, and at step 0 and the last; 0: never */
  readonly evaluateEverySteps: number;
  /** number of feature chunks of one evaluation */
  readonly featureChunks: number;
  /** what to do about a loss or gradient that is not finite */
  readonly nonFinite: "stop" | "skip";
}

export interface Member {
  /** when it was last heard of, ms on the caller's clock */
  readonly heardAt: number;
  /** it finishes what it keeps, and gets no more */
  readonly drains: boolean;
  /** that compute at once */
  readonly devices: number;
  /** mean time of one rank on one device, in ms; null: not known */
  readonly pace: number | null;
  /** since when its devices are at their present units */
  readonly busySince: number;
  /** of which so many are done */
  readonly done: number;
  /** units on end that it was slow for */
  readonly slowFor: number;
}

/** What went wrong in a rank's arithmetic. */
export interface Fault {
  readonly rank: number;
  readonly worker: WorkerId;
  /** "loss", or the parameter whose gradient is not finite */
  readonly where: string;
}

/** The ranks of the open step compute what they show each other in a round; its gradients come after the last one. */
export interface ExchangePhase {
  readonly kind: "exchange";
  readonly round: number;
  readonly work: Work;
  /** who did each rank in the round before: it goes on with what it has */
  readonly former: ReadonlyMap<number, WorkerId>;
  /** who has done it in this round */
  readonly shownBy: ReadonlyMap<number, WorkerId>;
  readonly lateAfterMs: number;
}

export interface StepPhase {
  readonly kind: "step";
  readonly work: Work;
  /** who did each rank in the last round */
  readonly former: ReadonlyMap<number, WorkerId>;
  /** ranks whose keys and loss are in */
  readonly results: ReadonlySet<number>;
  /** ranks whose gradients the aggregator holds */
  readonly gradients: ReadonlySet<number>;
  /** time after which a rank is late, in ms */
  readonly lateAfterMs: number;
  readonly fault: Fault | null;
}

export interface EvaluatingPhase {
  readonly kind: "evaluating";
  readonly work: Work;
  readonly lateAfterMs: number;
}

/** The last checkpoint is on its way to the disk. */
export interface EndingPhase {
  readonly kind: "ending";
  readonly end: End;
  readonly tries: number;
  /** when it is tried again; null: it is being tried */
  readonly retryAt: number | null;
}

export type Phase =
  | { readonly kind: "waiting" }
  | ExchangePhase
  | StepPhase
  | { readonly kind: "applying"; readonly skip: boolean }
  | EvaluatingPhase
  | { readonly kind: "classifying" }
  | EndingPhase
  | { readonly kind: "ended"; readonly end: End };

export interface End {
  readonly outcome: Outcome;
  /** why a run has failed, for its user */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

export type Outcome = "finished" | "stopped" | "failed";

export interface RunState {
  readonly plan: RunPlan;
  /** number of updates made, skipped ones included */
  readonly step: number;
  readonly phase: Phase;
  readonly workers: ReadonlyMap<WorkerId, Member>;
  /** how often the ranks of a step show each other something before its gradients are computed, as all workers say */
  readonly rounds: number;
  /** recent times of ranks' gradients, of their embeddings and of feature chunks, in ms */
  readonly recent: Readonly<Record<"ranks" | "embeddings" | "chunks", readonly number[]>>;
  /** step whose weights were evaluated last; null: none yet */
  readonly evaluatedAt: number | null;
  /** step of the newest checkpoint that is whole on disk; null: none yet */
  readonly savedAt: number | null;
  /** step of the checkpoint that is being written; one at a time */
  readonly saving: number | null;
  readonly stopRequested: boolean;
}

export type RunEvent =
  | { readonly kind: "worker-joined"; readonly worker: WorkerId; readonly rounds: number; readonly devices: number }
  | { readonly kind: "worker-left"; readonly worker: WorkerId; readonly reason: string }
  /** it wants to leave, and finishes these units of the open phase first */
  | { readonly kind: "worker-drains"; readonly worker: WorkerId; readonly keeps: readonly number[] }
  | { readonly kind: "heard"; readonly worker: WorkerId }
  | {
      readonly kind: "rank-result";
      readonly worker: WorkerId;
      readonly step: number;
      readonly rank: number;
      /** where it is not finite: "loss" or a parameter; null: all is well */
      readonly nonFinite: string | null;
    }
  | {
      readonly kind: "embeddings";
      readonly worker: WorkerId;
      readonly step: number;
      readonly rank: number;
      readonly round: number;
    }
  | { readonly kind: "gradients-held"; readonly step: number; readonly ranks: readonly number[] }
  | { readonly kind: "applied"; readonly step: number }
  | { readonly kind: "features"; readonly worker: WorkerId; readonly step: number; readonly chunk: number }
  | { readonly kind: "classified"; readonly step: number }
  | { readonly kind: "checkpoint-written"; readonly step: number }
  | { readonly kind: "checkpoint-failed"; readonly step: number; readonly reason: string }
  | { readonly kind: "stop-requested" }
  | { readonly kind: "tick" };

export type Effect =
  /** send the state after `step` updates to a worker that joins */
  | { readonly kind: "admit"; readonly worker: WorkerId; readonly step: number }
  | { readonly kind: "forget"; readonly worker: WorkerId; readonly reason: string }
  /** a worker that drains has given all that it keeps: it may go */
  | { readonly kind: "dismiss"; readonly worker: WorkerId }
  | { readonly kind: "open-step"; readonly step: number }
  /** what of these ranks is wanted: what they show in a round, or, past the last one, their gradients */
  | {
      readonly kind: "assign";
      readonly worker: WorkerId;
      readonly step: number;
      readonly ranks: readonly number[];
      readonly round: number;
    }
  /** what the ranks show in a round is in: everybody gets it */
  | { readonly kind: "show-embeddings"; readonly step: number; readonly round: number }
  /** all ranks are in: let the aggregator finish the tree and update (or leave it), and send the keys meanwhile */
  | { readonly kind: "apply"; readonly step: number; readonly skip: boolean }
  /** the update is made: append the keys, and send them to who has joined meanwhile */
  | { readonly kind: "publish"; readonly step: number; readonly skipped: boolean }
  | { readonly kind: "open-evaluation"; readonly step: number }
  | { readonly kind: "request-features"; readonly worker: WorkerId; readonly step: number; readonly chunk: number }
  | { readonly kind: "classify"; readonly step: number }
  | { readonly kind: "checkpoint"; readonly step: number }
  | ({ readonly kind: "end" } & End)
  /** a worker is slow for long, or no longer; times of a rank in ms */
  | {
      readonly kind: "straggler";
      readonly worker: WorkerId;
      readonly slow: boolean;
      readonly paceMs: number;
      readonly medianMs: number;
    }
  /** why something was decided, for the log */
  | { readonly kind: "explain"; readonly reason: string };

export interface Transition {
  readonly state: RunState;
  readonly effects: readonly Effect[];
}

/** @param step updates made already: 0, or that of the checkpoint the run resumes from */
export function initialState(plan: RunPlan, step: number): RunState {
  return {
    plan,
    step,
    phase: { kind: "waiting" },
    workers: new Map(),
    rounds: 0,
    recent: { ranks: [], embeddings: [], chunks: [] },
    // What a checkpoint holds was evaluated before it was written, or is not due.
    evaluatedAt: step === 0 ? null : step,
    savedAt: step === 0 ? null : step,
    saving: null,
    stopRequested: false,
  };
}
