/**
 * The coordinator's decisions as a pure state machine: (state, event, now) → (state, effects). No clock, socket, file or
 * random source in here; the shell (`server.ts`) turns messages into events and carries the effects out in order.
 */
import type { WorkerId } from "../src/protocol/identifiers.js";
import { splitEvenly } from "./planning.js";

/** What the machine must know of the run; fixed for the run. */
export interface RunPlan {
  readonly worldSize: number;
  readonly totalSteps: number;
  readonly minWorkers: number;
  /** silence after which a worker counts as dead, in ms */
  readonly deadAfterMs: number;
  /** a checkpoint every so many steps; 0: only at the end */
  readonly checkpointEverySteps: number;
  /** kNN accuracy every so many steps, and at step 0 and the last; 0: never */
  readonly evaluateEverySteps: number;
  /** number of feature chunks of one evaluation */
  readonly featureChunks: number;
}

interface Member {
  /** when it was last heard of, ms on the caller's clock */
  readonly heardAt: number;
}

/** Units of work of the open phase: ranks of a step, or chunks of an evaluation. */
interface Work {
  /** who holds each unit that is not done */
  readonly holders: ReadonlyMap<number, WorkerId>;
  /** units that nobody holds, ascending */
  readonly unassigned: readonly number[];
}

export type Phase =
  | { readonly kind: "waiting" }
  | ({
      readonly kind: "step";
      /** ranks whose keys and loss are in */
      readonly results: ReadonlySet<number>;
      /** ranks whose gradients the aggregator holds */
      readonly gradients: ReadonlySet<number>;
    } & Work)
  | { readonly kind: "applying" }
  | ({ readonly kind: "evaluating"; readonly done: ReadonlySet<number> } & Work)
  | { readonly kind: "classifying" }
  | { readonly kind: "ended"; readonly outcome: Outcome };

export type Outcome = "finished" | "stopped";

export interface RunState {
  readonly plan: RunPlan;
  /** number of updates applied */
  readonly step: number;
  readonly phase: Phase;
  readonly workers: ReadonlyMap<WorkerId, Member>;
  /** step whose weights were evaluated last; null: none yet */
  readonly evaluatedAt: number | null;
  readonly stopRequested: boolean;
}

export type RunEvent =
  | { readonly kind: "worker-joined"; readonly worker: WorkerId }
  | { readonly kind: "worker-left"; readonly worker: WorkerId; readonly reason: string }
  | { readonly kind: "heard"; readonly worker: WorkerId }
  | { readonly kind: "rank-result"; readonly step: number; readonly rank: number }
  | { readonly kind: "gradients-held"; readonly step: number; readonly ranks: readonly number[] }
  | { readonly kind: "applied"; readonly step: number }
  | { readonly kind: "features"; readonly step: number; readonly chunk: number }
  | { readonly kind: "classified"; readonly step: number }
  | { readonly kind: "stop-requested" }
  | { readonly kind: "tick" };

export type Effect =
  /** send the state after `step` updates to a worker that joins */
  | { readonly kind: "admit"; readonly worker: WorkerId; readonly step: number }
  | { readonly kind: "forget"; readonly worker: WorkerId; readonly reason: string }
  | { readonly kind: "open-step"; readonly step: number }
  | { readonly kind: "assign"; readonly worker: WorkerId; readonly step: number; readonly ranks: readonly number[] }
  /** all ranks are in: let the aggregator finish the tree and update, and send the keys meanwhile */
  | { readonly kind: "apply"; readonly step: number }
  /** the update is made: append the keys, and send them to who has joined meanwhile */
  | { readonly kind: "publish"; readonly step: number }
  | { readonly kind: "open-evaluation"; readonly step: number }
  | { readonly kind: "request-features"; readonly worker: WorkerId; readonly step: number; readonly chunk: number }
  | { readonly kind: "classify"; readonly step: number }
  | { readonly kind: "checkpoint"; readonly step: number }
  | { readonly kind: "end"; readonly outcome: Outcome }
  /** why something was decided, for the log */
  | { readonly kind: "explain"; readonly reason: string };

export interface Transition {
  readonly state: RunState;
  readonly effects: readonly Effect[];
}

/** @param step updates applied already: 0, or that of the checkpoint the run resumes from */
export function initialState(plan: RunPlan, step: number): RunState {
  return {
    plan,
    step,
    phase: { kind: "waiting" },
    workers: new Map(),
    // What a checkpoint holds was evaluated before it was written, or is not due.
    evaluatedAt: step === 0 ? null : step,
    stopRequested: false,
  };
}

export function transition(state: RunState, event: RunEvent, now: number): Transition {
  if (state.phase.kind === "ended") return { state, effects: [] };
  switch (event.kind) {
    case "worker-joined":
      return join(state, event.worker, now);
    case "worker-left":
      return leave(state, event.worker, event.reason);
    case "heard":
      return heard(state, event.worker, now);
    case "tick":
      return buryTheSilent(state, now);
    case "rank-result":
      return progress(state, event.step, (phase) => ({ ...phase, results: union(phase.results, [event.rank]) }));
    case "gradients-held":
      return progress(state, event.step, (phase) => ({ ...phase, gradients: union(phase.gradients, event.ranks) }));
    case "applied":
      if (state.phase.kind !== "applying" || event.step !== state.step) return unchanged(state);
      return afterUpdate({ ...state, step: state.step + 1 });
    case "features":
      return featuresIn(state, event.step, event.chunk);
    case "classified":
      if (state.phase.kind !== "classifying" || event.step !== state.step) return unchanged(state);
      return proceed({ ...state, evaluatedAt: state.step });
    case "stop-requested":
      // An update under way is finished first: the checkpoint is of a whole step.
      if (state.phase.kind === "applying") return unchanged({ ...state, stopRequested: true });
      return end(state, "stopped");
  }
}

function unchanged(state: RunState): Transition {
  return { state, effects: [] };
}

function union(set: ReadonlySet<number>, more: Iterable<number>): Set<number> {
  const result = new Set(set);
  for (const value of more) result.add(value);
  return result;
}

function end(state: RunState, outcome: Outcome): Transition {
  return {
    state: { ...state, phase: { kind: "ended", outcome } },
    effects: [
      { kind: "checkpoint", step: state.step },
      { kind: "end", outcome },
    ],
  };
}

function join(state: RunState, worker: WorkerId, now: number): Transition {
  const workers = new Map(state.workers).set(worker, { heardAt: now });
  const admitted = { ...state, workers };
  const next = state.phase.kind === "waiting" ? proceed(admitted) : distribute(admitted);
  return { state: next.state, effects: [{ kind: "admit", worker, step: state.step }, ...next.effects] };
}

function leave(state: RunState, worker: WorkerId, reason: string): Transition {
  if (!state.workers.has(worker)) return unchanged(state);
  const workers = new Map(state.workers);
  workers.delete(worker);
  const next = distribute({ ...state, workers, phase: handBack(state.phase, worker) });
  return { state: next.state, effects: [{ kind: "forget", worker, reason }, ...next.effects] };
}

/** The units that a lost worker held are nobody's again. */
function handBack(phase: Phase, worker: WorkerId): Phase {
  if (phase.kind !== "step" && phase.kind !== "evaluating") return phase;
  const holders = new Map([...phase.holders].filter(([, holder]) => holder !== worker));
  const freed = [...phase.holders].filter(([, holder]) => holder === worker).map(([unit]) => unit);
  return { ...phase, holders, unassigned: [...phase.unassigned, ...freed].sort((a, b) => a - b) };
}

function heard(state: RunState, worker: WorkerId, now: number): Transition {
  if (!state.workers.has(worker)) return unchanged(state);
  return unchanged({ ...state, workers: new Map(state.workers).set(worker, { heardAt: now }) });
}

function buryTheSilent(state: RunState, now: number): Transition {
  const effects: Effect[] = [];
  let current = state;
  for (const [worker, { heardAt }] of state.workers) {
    const silence = now - heardAt;
    if (silence <= state.plan.deadAfterMs) continue;
    const next = leave(current, worker, `silent for ${String(Math.round(silence))} ms`);
    current = next.state;
    effects.push(...next.effects);
  }
  return { state: current, effects };
}

/** Gives the units that nobody holds to workers: ranks to all alike, chunks to those who have none. */
function distribute(state: RunState): Transition {
  const { phase, step } = state;
  const everyone = [...state.workers.keys()];
  if (phase.kind === "step" && phase.unassigned.length > 0 && everyone.length > 0) {
    const holders = new Map(phase.holders);
    const effects: Effect[] = [];
    splitEvenly(phase.unassigned, everyone.length).forEach((ranks, index) => {
      const worker = everyone[index];
      if (ranks.length === 0) return;
      for (const rank of ranks) holders.set(rank, worker);
      effects.push({ kind: "assign", worker, step, ranks });
    });
    return { state: { ...state, phase: { ...phase, holders, unassigned: [] } }, effects };
  }
  if (phase.kind === "evaluating") {
    const holders = new Map(phase.holders);
    const unassigned = [...phase.unassigned];
    const effects: Effect[] = [];
    const busy = new Set(holders.values());
    for (const worker of everyone) {
      if (busy.has(worker)) continue;
      const chunk = unassigned.shift();
      if (chunk === undefined) break;
      holders.set(chunk, worker);
      effects.push({ kind: "request-features", worker, step, chunk });
    }
    return { state: { ...state, phase: { ...phase, holders, unassigned } }, effects };
  }
  return unchanged(state);
}

type StepPhase = Extract<Phase, { kind: "step" }>;

/** Takes news of the open step; once every rank's result and gradients are in, the update begins. */
function progress(state: RunState, step: number, update: (phase: StepPhase) => StepPhase): Transition {
  if (state.phase.kind !== "step" || step !== state.step) return unchanged(state);
  const updated = update(state.phase);
  const isDone = (rank: number) => updated.results.has(rank) && updated.gradients.has(rank);
  const phase: StepPhase = {
    ...updated,
    holders: new Map([...updated.holders].filter(([rank]) => !isDone(rank))),
    unassigned: updated.unassigned.filter((rank) => !isDone(rank)),
  };
  if (phase.holders.size > 0 || phase.unassigned.length > 0) return unchanged({ ...state, phase });
  return { state: { ...state, phase: { kind: "applying" } }, effects: [{ kind: "apply", step }] };
}

function afterUpdate(state: RunState): Transition {
  const { checkpointEverySteps, totalSteps } = state.plan;
  const effects: Effect[] = [{ kind: "publish", step: state.step }];
  const periodic = checkpointEverySteps > 0 && state.step % checkpointEverySteps === 0 && state.step < totalSteps;
  if (periodic && !state.stopRequested) effects.push({ kind: "checkpoint", step: state.step });
  const next = proceed(state);
  return { state: next.state, effects: [...effects, ...next.effects] };
}

/** Between two pieces of work: what comes next? */
function proceed(state: RunState): Transition {
  const { plan, step } = state;
  if (state.stopRequested) return end(state, "stopped");
  const isEvaluationDue =
    plan.evaluateEverySteps > 0 &&
    state.evaluatedAt !== step &&
    (step % plan.evaluateEverySteps === 0 || step === plan.totalSteps);
  if (step >= plan.totalSteps && !isEvaluationDue) return end(state, "finished");
  if (state.workers.size < plan.minWorkers) {
    const reason = `waiting: ${String(state.workers.size)} of at least ${String(plan.minWorkers)} workers are here`;
    return { state: { ...state, phase: { kind: "waiting" } }, effects: [{ kind: "explain", reason }] };
  }
  const units = Array.from({ length: isEvaluationDue ? plan.featureChunks : plan.worldSize }, (_, unit) => unit);
  const work = { holders: new Map<number, WorkerId>(), unassigned: units };
  const phase: Phase = isEvaluationDue
    ? { kind: "evaluating", done: new Set(), ...work }
    : { kind: "step", results: new Set(), gradients: new Set(), ...work };
  const opened: Effect = { kind: isEvaluationDue ? "open-evaluation" : "open-step", step };
  const next = distribute({ ...state, phase });
  return { state: next.state, effects: [opened, ...next.effects] };
}

function featuresIn(state: RunState, step: number, chunk: number): Transition {
  const { phase } = state;
  if (phase.kind !== "evaluating" || step !== state.step || phase.done.has(chunk)) return unchanged(state);
  if (chunk >= state.plan.featureChunks) return unchanged(state);
  const holders = new Map(phase.holders);
  holders.delete(chunk);
  const done = union(phase.done, [chunk]);
  if (done.size === state.plan.featureChunks) {
    return { state: { ...state, phase: { kind: "classifying" } }, effects: [{ kind: "classify", step }] };
  }
  const unassigned = phase.unassigned.filter((unit) => unit !== chunk);
  return distribute({ ...state, phase: { ...phase, done, holders, unassigned } });
}
