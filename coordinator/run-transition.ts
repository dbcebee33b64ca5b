/**
 * The coordinator's decisions as a pure state machine: (state, event, now) → (state, effects). No clock, socket, file or
 * random source in here; `server.ts` turns messages into events and carries the effects out in order.
 */
import { STATISTIC } from "../src/protocol/rank-metrics.js";
import type { WorkerId } from "../src/protocol/identifiers.js";
import { isSlow, lateAfter, nextPace, remember, SLOW_FOR_UNITS } from "./pace.js";
import type {
  Effect,
  End,
  EndingPhase,
  EvaluatingPhase,
  ExchangePhase,
  Fault,
  Member,
  Phase,
  RunEvent,
  RunPlan,
  RunState,
  StepPhase,
  Transition,
} from "./run-state.js";
import { backUp, finish, goOn, handBack, isBusy, isDone, oneEach, openWork, type Hand, type Work } from "./work.js";

/** A checkpoint that cannot be written at the end of a run is tried again so often … */
export const FINAL_CHECKPOINT_TRIES = 60;
/** … at this interval, in ms: somebody may make room. */
export const CHECKPOINT_RETRY_MS = 5000;

export function transition(state: RunState, event: RunEvent, now: number): Transition {
  if (state.phase.kind === "ended") return unchanged(state);
  switch (event.kind) {
    case "worker-joined":
      return join(state, event, now);
    case "worker-left":
      return leave(state, event.worker, event.reason, now);
    case "worker-drains":
      return drain(state, event.worker, event.keeps, now);
    case "heard":
      return heard(state, event.worker, now);
    case "tick":
      return tick(state, now);
    case "rank-result":
      return rankIn(state, event, now);
    case "embeddings":
      return embeddingsIn(state, event, now);
    case "gradients-held":
      if (state.phase.kind !== "step" || event.step !== state.step) return unchanged(state);
      return progress(state, { ...state.phase, gradients: union(state.phase.gradients, event.ranks) }, now);
    case "applied":
      if (state.phase.kind !== "applying" || event.step !== state.step) return unchanged(state);
      return afterUpdate({ ...state, step: state.step + 1 }, state.phase.skip, now);
    case "features":
      return featuresIn(state, event, now);
    case "classified":
      if (state.phase.kind !== "classifying" || event.step !== state.step) return unchanged(state);
      return proceed({ ...state, evaluatedAt: state.step }, now);
    case "checkpoint-written":
      return saved(state, event.step);
    case "checkpoint-failed":
      return notSaved(state, event.step, event.reason, now);
    case "stop-requested":
      if (state.phase.kind === "ending") return unchanged(state);
      // An update under way is finished first: the checkpoint is of a whole step.
      if (state.phase.kind === "applying") return unchanged({ ...state, stopRequested: true });
      return end(state, { outcome: "stopped", failure: null });
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

/** Both in order: what the first does, then what the second makes of it. */
function then({ state, effects }: Transition, next: (state: RunState) => Transition): Transition {
  const after = next(state);
  return effects.length === 0 ? after : { state: after.state, effects: [...effects, ...after.effects] };
}

function withMember(state: RunState, worker: WorkerId, change: (member: Member) => Member): RunState {
  const member = state.workers.get(worker);
  if (member === undefined) return state;
  return { ...state, workers: new Map(state.workers).set(worker, change(member)) };
}

// --- Workers come and go.

function join(
  state: RunState,
  { worker, rounds, devices }: Extract<RunEvent, { kind: "worker-joined" }>,
  now: number,
): Transition {
  const fresh = { pace: null, busySince: now, done: 0, slowFor: 0 };
  const member: Member = { heardAt: now, drains: false, devices, ...fresh };
  const admitted = { ...state, rounds, workers: new Map(state.workers).set(worker, member) };
  const admission: Transition = { state: admitted, effects: [{ kind: "admit", worker, step: state.step }] };
  return then(admission, (here) => (here.phase.kind === "waiting" ? proceed(here, now) : distribute(here, now)));
}

function leave(state: RunState, worker: WorkerId, reason: string, now: number): Transition {
  if (!state.workers.has(worker)) return unchanged(state);
  const workers = new Map(state.workers);
  workers.delete(worker);
  const without = withWork({ ...state, workers }, (work) => handBack(work, worker));
  const gone: Transition = { state: without, effects: [{ kind: "forget", worker, reason }] };
  return then(
    then(gone, (here) => distribute(here, now)),
    sayIfNobodyIsHere,
  );
}

function drain(state: RunState, worker: WorkerId, keeps: readonly number[], now: number): Transition {
  if (!state.workers.has(worker)) return unchanged(state);
  const draining = withMember(state, worker, (member) => ({ ...member, drains: true, heardAt: now }));
  const handedBack = withWork(draining, (work) => handBack(work, worker, keeps));
  return then(then(distribute(handedBack, now), dismissDrained), sayIfNobodyIsHere);
}

/** Workers that drain and have nothing left may go. */
function dismissDrained(state: RunState): Transition {
  const work = workOf(state.phase);
  const gone: WorkerId[] = [];
  for (const [worker, { drains }] of state.workers) {
    if (drains && (work === null || !isBusy(work, worker))) gone.push(worker);
  }
  if (gone.length === 0) return unchanged(state);
  const workers = new Map([...state.workers].filter(([worker]) => !gone.includes(worker)));
  return { state: { ...state, workers }, effects: gone.map((worker) => ({ kind: "dismiss", worker })) };
}

function sayIfNobodyIsHere(state: RunState): Transition {
  const isStuck = state.workers.size === 0 && workOf(state.phase) !== null;
  return { state, effects: isStuck ? [{ kind: "explain", reason: "waiting: no worker is here" }] : [] };
}

function heard(state: RunState, worker: WorkerId, now: number): Transition {
  return unchanged(withMember(state, worker, (member) => ({ ...member, heardAt: now })));
}

function tick(state: RunState, now: number): Transition {
  const effects: Effect[] = [];
  let current = state;
  for (const [worker, { heardAt }] of state.workers) {
    const silence = now - heardAt;
    if (silence <= state.plan.deadAfterMs) continue;
    const next = leave(current, worker, `silent for ${String(Math.round(silence))} ms`, now);
    current = next.state;
    effects.push(...next.effects);
  }
  const { phase } = current;
  if (phase.kind === "ending" && phase.retryAt !== null && now >= phase.retryAt) {
    effects.push({ kind: "checkpoint", step: current.step });
    return { state: { ...current, saving: current.step, phase: { ...phase, retryAt: null } }, effects };
  }
  return then({ state: current, effects }, (here) => backUpTheLate(here, now));
}

// --- Units of work go to workers.

type WorkPhase = ExchangePhase | StepPhase | EvaluatingPhase;

function isWorkPhase(phase: Phase): phase is WorkPhase {
  return phase.kind === "exchange" || phase.kind === "step" || phase.kind === "evaluating";
}

function workOf(phase: Phase): Work | null {
  return isWorkPhase(phase) ? phase.work : null;
}

function withWork(state: RunState, change: (work: Work) => Work): RunState {
  if (!isWorkPhase(state.phase)) return state;
  return { ...state, phase: { ...state.phase, work: change(state.phase.work) } };
}

/** Workers that may get something, in the order in which they came. */
function handsOf(state: RunState): readonly Hand[] {
  const hands: Hand[] = [];
  for (const [id, { drains, ...hand }] of state.workers) if (!drains) hands.push({ id, ...hand });
  return hands;
}

/** Units that nobody works on go to workers: ranks to all alike, chunks to those who have none. */
function distribute(state: RunState, now: number): Transition {
  const { phase } = state;
  if (!isWorkPhase(phase) || phase.work.unassigned.length === 0) return unchanged(state);
  const hands = handsOf(state);
  const shared = phase.kind === "evaluating" ? oneEach(phase.work, hands) : goOn(phase.work, hands, phase.former);
  return given(state, phase, shared, now);
}

/** Idle workers get units of those who are late. */
function backUpTheLate(state: RunState, now: number): Transition {
  const { phase } = state;
  if (!isWorkPhase(phase)) return unchanged(state);
  // Mostly nobody is, and every result asks.
  for (const [first] of phase.work.holders.values()) {
    const busyFor = now - (state.workers.get(first)?.busySince ?? now);
    if (busyFor > phase.lateAfterMs)
      return given(state, phase, backUp(phase.work, handsOf(state), phase.lateAfterMs, now), now);
  }
  return unchanged(state);
}

function given(state: RunState, phase: WorkPhase, { work, assignments }: ReturnType<typeof backUp>, now: number) {
  if (assignments.length === 0) return unchanged(state);
  const workers = new Map(state.workers);
  const effects: Effect[] = [];
  for (const { worker, units } of assignments) {
    const member = workers.get(worker);
    if (member !== undefined && !isBusy(phase.work, worker))
      workers.set(worker, { ...member, busySince: now, done: 0 });
    const { step } = state;
    if (phase.kind === "evaluating")
      for (const chunk of units) effects.push({ kind: "request-features", worker, step, chunk });
    else
      effects.push({
        kind: "assign",
        worker,
        step,
        ranks: units,
        round: phase.kind === "exchange" ? phase.round : state.rounds,
      });
  }
  return { state: { ...state, workers, phase: { ...phase, work } }, effects };
}

/**
 * A worker has done a unit: what that says of its speed. Several devices take as long for a unit each as one takes for one.
 * @param left what is not done; asked only of workers with several
 */
function timed(
  state: RunState,
  worker: WorkerId,
  kind: keyof RunState["recent"],
  left: () => Work,
  now: number,
): Transition {
  const before = state.workers.get(worker);
  if (before === undefined) return unchanged(state);
  const done = before.done + 1;
  if (done < before.devices && isBusy(left(), worker))
    return unchanged(withMember(state, worker, (member) => ({ ...member, done })));
  const member = { ...before, done: 0 };
  const ms = now - member.busySince;
  const remembered = { ...state, recent: { ...state.recent, [kind]: remember(state.recent[kind], ms) } };
  const changed = (change: Member) => withMember(remembered, worker, () => change);
  if (kind !== "ranks") return unchanged(changed({ ...member, busySince: now }));
  const pace = nextPace(member.pace, ms);
  const others: number[] = [];
  for (const [id, other] of state.workers) if (id !== worker && other.pace !== null) others.push(other.pace);
  const { slow, median } = isSlow(pace, others);
  const slowFor = slow ? member.slowFor + 1 : 0;
  const wasNamed = member.slowFor >= SLOW_FOR_UNITS;
  const isNews = slow ? slowFor === SLOW_FOR_UNITS : wasNamed;
  const effects: Effect[] = isNews ? [{ kind: "straggler", worker, slow, paceMs: pace, medianMs: median }] : [];
  return { state: changed({ ...member, busySince: now, pace, slowFor }), effects };
}

// --- A step.

function embeddingsIn(state: RunState, event: Extract<RunEvent, { kind: "embeddings" }>, now: number): Transition {
  const { phase } = state;
  const { worker, step, rank, round } = event;
  if (phase.kind !== "exchange" || step !== state.step || round !== phase.round) return unchanged(state);
  if (!phase.work.holders.has(rank) && !phase.work.unassigned.includes(rank)) return unchanged(state);
  const work = finish(phase.work, (unit) => unit === rank);
  const shownBy = new Map(phase.shownBy).set(rank, worker);
  return then(
    timed(state, worker, "embeddings", () => work, now),
    (here) => {
      const next = () => (round + 1 < here.rounds ? exchangePhase(here, round + 1, shownBy) : stepPhase(here, shownBy));
      const open: Transition = isDone(work)
        ? { state: { ...here, phase: next() }, effects: [{ kind: "show-embeddings", step, round }] }
        : unchanged({ ...here, phase: { ...phase, work, shownBy } });
      return then(
        then(then(open, dismissDrained), (rest) => distribute(rest, now)),
        (rest) => backUpTheLate(rest, now),
      );
    },
  );
}

function stepPhase({ plan, recent }: RunState, former: StepPhase["former"] = new Map()): StepPhase {
  return {
    kind: "step",
    work: openWork(plan.worldSize),
    former,
    results: new Set(),
    gradients: new Set(),
    lateAfterMs: lateness(plan, recent.ranks),
    fault: null,
  };
}

/** Time after which a unit is late, by how long others took of late. */
function lateness({ lateQuantile, heartbeatMs }: RunPlan, recent: readonly number[]): number {
  return lateAfter(recent, lateQuantile, heartbeatMs);
}

function rankIn(state: RunState, event: Extract<RunEvent, { kind: "rank-result" }>, now: number): Transition {
  const { phase } = state;
  const { worker, step, rank, nonFinite } = event;
  if (phase.kind !== "step" || step !== state.step || rank >= state.plan.worldSize) return unchanged(state);
  if (phase.results.has(rank)) return unchanged(state);
  const fault = phase.fault ?? (nonFinite === null ? null : { rank, worker, where: nonFinite });
  if (fault !== null && state.plan.nonFinite === "stop")
    return end(state, { outcome: "failed", failure: told(fault, step) });
  const next = { ...phase, results: union(phase.results, [rank]), fault };
  const left = () => finish(phase.work, (unit) => next.results.has(unit));
  return then(timed(state, worker, "ranks", left, now), (here) => progress(here, next, now));
}

function told({ rank, worker, where }: Fault, step: number) {
  const what = where === "loss" ? "the loss" : where === STATISTIC ? where : `the gradient of ${where}`;
  const message =
    `${what} is not finite at step ${String(step)}, rank ${String(rank)}, computed by ${worker}: lower optimizer.learningRate ` +
    "or lengthen the warm-up; the checkpoint of the step before is kept, and --resume --set numerics.nonFinite=skip leaves such steps out";
  return { code: "NON_FINITE", message };
}

/** News of the open step; once every rank's result and gradients are in, the update begins. */
function progress(state: RunState, phase: StepPhase, now: number): Transition {
  const isIn = (rank: number) => phase.results.has(rank) && phase.gradients.has(rank);
  const work = finish(phase.work, isIn);
  const { step } = state;
  if (!isDone(work)) {
    const open = { ...state, phase: { ...phase, work } };
    return then(dismissDrained(open), (here) => backUpTheLate(here, now));
  }
  const skip = phase.fault !== null;
  const effects: Effect[] = [{ kind: "apply", step, skip }];
  if (phase.fault !== null) {
    const { message } = told(phase.fault, step);
    effects.unshift({ kind: "explain", reason: `step ${String(step)} is skipped: ${message.split(":")[0]}` });
  }
  return then({ state: { ...state, phase: { kind: "applying", skip } }, effects }, dismissDrained);
}

function afterUpdate(state: RunState, skipped: boolean, now: number): Transition {
  const { checkpointEverySteps, totalSteps } = state.plan;
  const published: Transition = { state, effects: [{ kind: "publish", step: state.step, skipped }] };
  const isDue = checkpointEverySteps > 0 && state.step % checkpointEverySteps === 0 && state.step < totalSteps;
  const kept = isDue && !state.stopRequested ? then(published, save) : published;
  return then(kept, (here) => proceed(here, now));
}

// --- Checkpoints.

/** One is written at a time: a disk that cannot keep up costs checkpoints, not steps or memory. */
function save(state: RunState): Transition {
  const { step, saving } = state;
  if (saving === null) return { state: { ...state, saving: step }, effects: [{ kind: "checkpoint", step }] };
  const reason = `the checkpoint of step ${String(step)} is left out: that of step ${String(saving)} is still being written`;
  return { state, effects: [{ kind: "explain", reason }] };
}

function saved(state: RunState, step: number): Transition {
  if (state.saving !== step) return unchanged(state);
  const free = { ...state, saving: null, savedAt: step };
  return free.phase.kind === "ending" ? end(free, free.phase.end) : unchanged(free);
}

function notSaved(state: RunState, step: number, reason: string, now: number): Transition {
  if (state.saving !== step) return unchanged(state);
  const free = { ...state, saving: null };
  const said: Transition = { state: free, effects: [{ kind: "explain", reason }] };
  const { phase } = free;
  if (phase.kind !== "ending") return said;
  // It was an earlier one: the last has not been tried yet.
  if (step !== state.step) return then(said, (here) => end(here, phase.end));
  const tries = phase.tries + 1;
  if (tries < FINAL_CHECKPOINT_TRIES) {
    return {
      state: { ...free, phase: { ...phase, tries, retryAt: now + CHECKPOINT_RETRY_MS } },
      effects: said.effects,
    };
  }
  const failed: End = { outcome: "failed", failure: { code: "CHECKPOINT_WRITE", message: reason } };
  return then(said, (here) => ({
    state: { ...here, phase: { kind: "ended", end: failed } },
    effects: [{ kind: "end", ...failed }],
  }));
}

/** The run ends once the state as it is now is on disk. */
function end(state: RunState, how: End): Transition {
  if (state.saving === null && state.savedAt === state.step) {
    return { state: { ...state, phase: { kind: "ended", end: how } }, effects: [{ kind: "end", ...how }] };
  }
  const phase: EndingPhase = { kind: "ending", end: how, tries: 0, retryAt: null };
  const ending = { ...state, phase };
  return then(ending.saving === null ? save(ending) : unchanged(ending), dismissDrained);
}

// --- Between two pieces of work.

/** What comes next? */
function proceed(state: RunState, now: number): Transition {
  const { plan, step } = state;
  if (state.stopRequested) return end(state, { outcome: "stopped", failure: null });
  const isEvaluationDue =
    plan.evaluateEverySteps > 0 &&
    state.evaluatedAt !== step &&
    (step % plan.evaluateEverySteps === 0 || step === plan.totalSteps);
  if (step >= plan.totalSteps && !isEvaluationDue) return end(state, { outcome: "finished", failure: null });
  const here = handsOf(state).length;
  if (here < plan.minWorkers) {
    const reason = `waiting: ${String(here)} of at least ${String(plan.minWorkers)} workers are here`;
    return { state: { ...state, phase: { kind: "waiting" } }, effects: [{ kind: "explain", reason }] };
  }
  const phase = isEvaluationDue
    ? evaluatingPhase(state)
    : state.rounds > 0
      ? exchangePhase(state, 0)
      : stepPhase(state);
  const opened: Effect = { kind: isEvaluationDue ? "open-evaluation" : "open-step", step };
  return then({ state: { ...state, phase }, effects: [opened] }, (open) => distribute(open, now));
}

function evaluatingPhase({ plan, recent }: RunState): EvaluatingPhase {
  return { kind: "evaluating", work: openWork(plan.featureChunks), lateAfterMs: lateness(plan, recent.chunks) };
}

function exchangePhase(
  { plan, recent }: RunState,
  round: number,
  former: ExchangePhase["former"] = new Map(),
): ExchangePhase {
  const lateAfterMs = lateness(plan, recent.embeddings);
  return { kind: "exchange", round, work: openWork(plan.worldSize), former, shownBy: new Map(), lateAfterMs };
}

function featuresIn(state: RunState, event: Extract<RunEvent, { kind: "features" }>, now: number): Transition {
  const { phase } = state;
  const { worker, step, chunk } = event;
  if (phase.kind !== "evaluating" || step !== state.step) return unchanged(state);
  if (!phase.work.holders.has(chunk) && !phase.work.unassigned.includes(chunk)) return unchanged(state);
  const work = finish(phase.work, (unit) => unit === chunk);
  return then(
    timed(state, worker, "chunks", () => work, now),
    (here) => {
      if (isDone(work)) {
        const classifying: Transition = {
          state: { ...here, phase: { kind: "classifying" } },
          effects: [{ kind: "classify", step }],
        };
        return then(classifying, dismissDrained);
      }
      const open = distribute({ ...here, phase: { ...phase, work } }, now);
      return then(then(open, dismissDrained), (rest) => backUpTheLate(rest, now));
    },
  );
}
