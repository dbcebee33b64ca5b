/**
 * Where a run's time goes, as Chrome's trace events (the JSON array format, whose end may be missing): one row a worker, one for
 * the update, one for the steps. Perfetto (ui.perfetto.dev) and chrome://tracing show it.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { UserError } from "../protocol/errors.js";
import type { RankMetrics } from "../protocol/rank-metrics.js";

/** What happens in a step, told when it happens. */
export type Moment =
  | { readonly kind: "step-opened"; readonly step: number }
  /** a sign of life, be it work or a heartbeat */
  | { readonly kind: "heard"; readonly worker: string }
  /** a rank's result is in: how long each part took, in ms */
  | {
      readonly kind: "rank-done";
      readonly worker: string;
      readonly step: number;
      readonly rank: number;
      readonly metrics: RankMetrics;
    }
  /** every rank's gradients and result are in */
  | { readonly kind: "update-begun"; readonly step: number }
  | { readonly kind: "update-done"; readonly step: number };

const COORDINATOR = 1;
const WORKERS = 2;
const STEPS = 1;
const UPDATES = 2;

export class Timeline {
  private readonly file: number;
  private readonly rows = new Map<string, number>();
  private openedAt = 0;
  private updateAt = 0;
  private isEmpty = true;

  /**
   * @param now monotonic clock in ms
   * @throws UserError `TRACE_WRITE` where the file cannot be made
   */
  constructor(
    path: string,
    private readonly now: () => number,
  ) {
    try {
      this.file = openSync(path, "w");
    } catch (cause) {
      throw new UserError("TRACE_WRITE", `cannot write --trace ${path}: ${(cause as Error).message}`, { cause });
    }
    writeSync(this.file, "[\n");
    this.name("process_name", COORDINATOR, 0, "coordinator");
    this.name("thread_name", COORDINATOR, STEPS, "steps");
    this.name("thread_name", COORDINATOR, UPDATES, "update");
    this.name("process_name", WORKERS, 0, "workers");
  }

  happened(moment: Moment): void {
    const now = this.now();
    switch (moment.kind) {
      case "heard":
        return;
      case "step-opened":
        this.openedAt = now;
        return;
      case "rank-done":
        this.rankDone(moment, now);
        return;
      case "update-begun":
        this.updateAt = now;
        return;
      case "update-done":
        this.span(COORDINATOR, UPDATES, "update", this.updateAt, now, { step: moment.step });
        this.span(COORDINATOR, STEPS, `step ${moment.step}`, this.openedAt, now, { step: moment.step });
        return;
    }
  }

  close(): void {
    writeSync(this.file, "\n]\n");
    closeSync(this.file);
  }

  /** The parts lie one after another and end with the result: what it took on its way is not known. */
  private rankDone({ worker, step, rank, metrics }: Extract<Moment, { kind: "rank-done" }>, now: number): void {
    const row = this.rowOf(worker);
    const { backwardMs, forwardMs, loadMs, exchangeMs } = metrics;
    let end = now;
    for (const [name, ms] of Object.entries({
      backward: backwardMs,
      forward: forwardMs,
      load: loadMs,
      wait: exchangeMs,
    })) {
      this.span(WORKERS, row, name, end - ms, end, { step, rank });
      end -= ms;
    }
  }

  private rowOf(worker: string): number {
    const known = this.rows.get(worker);
    if (known !== undefined) return known;
    const row = this.rows.size + 1;
    this.rows.set(worker, row);
    this.name("thread_name", WORKERS, row, worker);
    return row;
  }

  /** @param from in ms @param to in ms */
  private span(pid: number, tid: number, name: string, from: number, to: number, args: object): void {
    if (to > from) this.write({ name, ph: "X", pid, tid, ts: 1000 * from, dur: 1000 * (to - from), args });
  }

  private name(kind: "process_name" | "thread_name", pid: number, tid: number, name: string): void {
    this.write({ name: kind, ph: "M", pid, tid, args: { name } });
  }

  private write(event: object): void {
    writeSync(this.file, `${this.isEmpty ? "" : ",\n"}${JSON.stringify(event)}`);
    this.isEmpty = false;
  }
}
