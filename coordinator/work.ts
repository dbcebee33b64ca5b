/**
 * The units of an open phase (ranks of a step, chunks of an evaluation) and who works on which. Pure: every function takes
 * the work as it is and returns it as it will be.
 *
 * A worker computes the same bits for a unit as any other, so a unit that is late is given to an idle worker too, and the
 * first answer counts ("backup tasks", Dean and Ghemawat 2004, section 3.6).
 */
import type { WorkerId } from "../src/protocol/identifiers.js";
import { splitBySpeed, type Speed } from "./planning.js";

export interface Work {
  /** who works on each unit that is given out and not done: one worker, or two where the first is late */
  readonly holders: ReadonlyMap<number, readonly WorkerId[]>;
  /** units that nobody works on, ascending */
  readonly unassigned: readonly number[];
}

/** What the work must know of a worker. */
export interface Hand extends Speed {
  readonly id: WorkerId;
  /** since when it is at its present unit, ms on the caller's clock */
  readonly busySince: number;
}

export interface Assignment {
  readonly worker: WorkerId;
  readonly units: readonly number[];
}

interface Distribution {
  readonly work: Work;
  readonly assignments: readonly Assignment[];
}

export function openWork(units: number): Work {
  return { holders: new Map(), unassigned: Array.from({ length: units }, (_, unit) => unit) };
}

export function isDone({ holders, unassigned }: Work): boolean {
  return holders.size === 0 && unassigned.length === 0;
}

export function isBusy({ holders }: Work, worker: WorkerId): boolean {
  for (const held of holders.values()) if (held.includes(worker)) return true;
  return false;
}

/** These units are done, whoever did them. */
export function finish(work: Work, isFinished: (unit: number) => boolean): Work {
  const { holders, unassigned } = work;
  const left = new Map<number, readonly WorkerId[]>();
  for (const [unit, held] of holders) if (!isFinished(unit)) left.set(unit, held);
  return {
    holders: left.size === holders.size ? holders : left,
    unassigned: unassigned.some(isFinished) ? unassigned.filter((unit) => !isFinished(unit)) : unassigned,
  };
}

/** A worker gives back all of its units but those that it keeps; a unit that nobody else works on is nobody's again. */
export function handBack(work: Work, worker: WorkerId, keeps: readonly number[] = []): Work {
  const holders = new Map(work.holders);
  const freed: number[] = [];
  for (const [unit, held] of work.holders) {
    if (!held.includes(worker) || keeps.includes(unit)) continue;
    const others = held.filter((holder) => holder !== worker);
    if (others.length > 0) holders.set(unit, others);
    else {
      holders.delete(unit);
      freed.push(unit);
    }
  }
  if (freed.length === 0) return { ...work, holders };
  return { holders, unassigned: [...work.unassigned, ...freed].sort((a, b) => a - b) };
}

/** All units that nobody works on go to the workers, by their speed. */
export function shareOut(work: Work, hands: readonly Hand[]): Distribution {
  if (work.unassigned.length === 0 || hands.length === 0) return { work, assignments: [] };
  const holders = new Map(work.holders);
  const assignments: Assignment[] = [];
  const runs = splitBySpeed(work.unassigned, hands);
  for (const [index, units] of runs.entries()) {
    if (units.length === 0) continue;
    const worker = hands[index].id;
    for (const unit of units) holders.set(unit, [worker]);
    assignments.push({ worker, units });
  }
  return { work: { holders, unassigned: [] }, assignments };
}

/** As `shareOut`, but a unit goes to the worker that had it before, if that one is still to be had. */
export function goOn(work: Work, hands: readonly Hand[], former: ReadonlyMap<number, WorkerId>): Distribution {
  const kept = new Map<WorkerId, number[]>(hands.map(({ id }) => [id, []]));
  const left: number[] = [];
  for (const unit of work.unassigned) (kept.get(former.get(unit) ?? ("" as WorkerId)) ?? left).push(unit);
  const holders = new Map(work.holders);
  const assignments: Assignment[] = [];
  for (const [worker, units] of kept) {
    if (units.length === 0) continue;
    for (const unit of units) holders.set(unit, [worker]);
    assignments.push({ worker, units });
  }
  const rest = shareOut({ holders, unassigned: left }, hands);
  return { work: rest.work, assignments: [...assignments, ...rest.assignments] };
}

/** Each idle device gets one unit that nobody works on. */
export function oneEach(work: Work, hands: readonly Hand[]): Distribution {
  if (work.unassigned.length === 0) return { work, assignments: [] };
  const holders = new Map(work.holders);
  const unassigned = [...work.unassigned];
  const assignments: Assignment[] = [];
  const held = [...work.holders.values()].flat();
  const idle = new Map(hands.map(({ id, devices }) => [id, devices - held.filter((holder) => holder === id).length]));
  for (let turn = 0; Math.max(...idle.values()) > turn && unassigned.length > 0; turn++) {
    for (const [worker, devices] of idle) {
      const unit = devices > turn ? unassigned.shift() : undefined;
      if (unit === undefined) continue;
      holders.set(unit, [worker]);
      assignments.push({ worker, units: [unit] });
    }
  }
  return { work: { holders, unassigned }, assignments };
}

/**
 * Each idle worker gets one unit of a worker that is late: one that is at its present unit for longer than `lateAfterMs`.
 * The last of its units first, since it works from the front.
 */
export function backUp(work: Work, hands: readonly Hand[], lateAfterMs: number, now: number): Distribution {
  const late = new Set<WorkerId>();
  for (const { id, busySince } of hands) if (now - busySince > lateAfterMs) late.add(id);
  const candidates = [...work.holders].filter(([, [first, second]]) => second === undefined && late.has(first));
  if (candidates.length === 0) return { work, assignments: [] };
  candidates.sort(([a], [b]) => b - a);
  const busy = new Set([...work.holders.values()].flat());
  const idle = hands.filter(({ id }) => !busy.has(id));
  const holders = new Map(work.holders);
  const assignments: Assignment[] = [];
  for (const [index, [unit, [first]]] of candidates.entries()) {
    if (index >= idle.length) break;
    const worker = idle[index].id;
    holders.set(unit, [first, worker]);
    assignments.push({ worker, units: [unit] });
  }
  return { work: { ...work, holders }, assignments };
}
