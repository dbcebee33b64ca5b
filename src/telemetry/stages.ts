/** Where a worker's time goes, as the coordinator can tell: its own parts from its results, and what its idle time was for from when things happened here. */
import type { Moment } from "./timeline.js";

/** In the order in which they follow each other. */
export const STAGES = ["load", "forward", "backward", "wait", "send", "aggregate", "broadcast"] as const;
export type Stage = (typeof STAGES)[number];
/** Shares of a worker's time, 0 to 1. */
export type Shares = Readonly<Record<Stage, number>>;

/** What a worker has done in a while: its ranks, where their time went in ms, and payload in bytes. */
export type StageTotals = Readonly<Totals>;
type Totals = Record<Stage | "ranks" | "sentBytes" | "receivedBytes", number>;

const NOTHING: StageTotals = { ...byStage(() => 0), ranks: 0, sentBytes: 0, receivedBytes: 0 };

/** The last so many results of a worker count for its shares. */
const WINDOW = 64;

/** What one step had everybody wait for, in ms. */
interface Gap {
  /** when the worker's last result was in */
  readonly doneAt: ReadonlyMap<string, number>;
  /** when the last of all was */
  readonly allDoneAt: number;
  readonly updateBegunAt: number;
  readonly updateDoneAt: number;
  /** when the next step began: evaluations, and waiting for workers, lie between */
  openedAt: number;
}

export class StageClock {
  private readonly recent = new Map<string, Shares[]>();
  private totals = new Map<string, Totals>();
  private doneAt = new Map<string, number>();
  private updateBegunAt = 0;
  private gap: Gap | null = null;
  /** who has told of its idle time in the gap already */
  private told = new Set<string>();

  /** @param now clock in ms */
  constructor(private readonly now: () => number) {}

  happened(moment: Moment): void {
    switch (moment.kind) {
      case "rank-done":
        this.rankDone(moment);
        return;
      case "update-begun":
        this.updateBegunAt = this.now();
        return;
      case "update-done":
        this.gap = {
          doneAt: this.doneAt,
          allDoneAt: Math.max(...this.doneAt.values()),
          updateBegunAt: this.updateBegunAt,
          updateDoneAt: this.now(),
          openedAt: this.now(),
        };
        this.doneAt = new Map();
        this.told = new Set();
        return;
      case "step-opened":
        if (this.gap !== null) this.gap.openedAt = this.now();
        return;
      case "heard":
    }
  }

  left(worker: string): void {
    this.recent.delete(worker);
  }

  /** @returns null where nothing is known yet */
  sharesOf(worker: string): Shares | null {
    const parts = this.recent.get(worker);
    if (parts === undefined) return null;
    const sum = (stage: Stage) => parts.reduce((total, part) => total + part[stage], 0);
    const all = STAGES.reduce((total, stage) => total + sum(stage), 0);
    return all === 0 ? null : byStage((stage) => sum(stage) / all);
  }

  /** What each worker has done since this was asked last. */
  takeTotals(): ReadonlyMap<string, StageTotals> {
    const { totals } = this;
    this.totals = new Map();
    return totals;
  }

  private rankDone({ worker, metrics }: Extract<Moment, { kind: "rank-done" }>): void {
    this.doneAt.set(worker, this.now());
    const { loadMs: load, forwardMs: forward, backwardMs: backward, exchangeMs, sentBytes, receivedBytes } = metrics;
    const isFirst = !this.told.has(worker);
    this.told.add(worker);
    const idle = isFirst ? this.split(worker, exchangeMs) : { wait: exchangeMs, send: 0, aggregate: 0, broadcast: 0 };
    const part = { load, forward, backward, ...idle };
    const recent = this.recent.get(worker) ?? [];
    if (recent.push(part) > WINDOW) recent.shift();
    this.recent.set(worker, recent);
    const totals = this.totals.get(worker) ?? { ...NOTHING };
    this.totals.set(worker, totals);
    for (const stage of STAGES) totals[stage] += part[stage];
    totals.ranks++;
    totals.sentBytes += sentBytes;
    totals.receivedBytes += receivedBytes;
  }

  /**
   * Idle time between a worker's last result of a step and its first of the next: the others' work, then gradients that are still on their way after the last
   * result, then the update; what is left of it is weights and keys on their way to the engine. What lies between two steps, as an evaluation does, and before
   * the first, is no step's time and left out.
   */
  private split(worker: string, idleMs: number): Pick<Shares, "wait" | "send" | "aggregate" | "broadcast"> {
    const { gap } = this;
    const doneAt = gap?.doneAt.get(worker);
    if (gap === null) return { wait: 0, send: 0, aggregate: 0, broadcast: 0 };
    // It was not there, or had none of the ranks.
    if (doneAt === undefined) return { wait: idleMs, send: 0, aggregate: 0, broadcast: 0 };
    let left = idleMs;
    const take = (ms: number) => {
      const taken = Math.min(left, Math.max(0, ms));
      left -= taken;
      return taken;
    };
    const wait = take(gap.allDoneAt - doneAt);
    const send = take(gap.updateBegunAt - gap.allDoneAt);
    const aggregate = take(gap.updateDoneAt - gap.updateBegunAt);
    take(gap.openedAt - gap.updateDoneAt);
    return { wait, send, aggregate, broadcast: left };
  }
}

function byStage(make: (stage: Stage) => number): Shares {
  return Object.fromEntries(STAGES.map((stage) => [stage, make(stage)])) as unknown as Shares;
}
