/** Writes where the workers' time went into a run's events, now and then. */
import type { RunObserver } from "../../coordinator/server.js";
import { StageClock, type EventFile, type Moment } from "../telemetry/index.js";

/** First after so long, then twice that, up to every so often, in ms: a short run and a killed one are to leave some, too. */
const FIRST_MS = 1000;
const EVERY_MS = 10_000;
/** More have it less often, so that it is never more than about 1 kB a second. */
const WORKERS_AT_ONCE = 32;

export class StageLog implements Partial<RunObserver> {
  private readonly clock: StageClock;
  /** null: no step has begun */
  private writtenAt: number | null = null;
  private dueMs = FIRST_MS;

  /** @param now monotonic clock in ms */
  constructor(
    private readonly events: EventFile,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.clock = new StageClock(now);
  }

  happened(moment: Moment): void {
    if (moment.kind === "step-opened") this.writtenAt ??= this.now();
    this.clock.happened(moment);
  }

  stepDone({ workers }: { readonly workers: number }): void {
    const dueMs = this.dueMs * Math.max(1, workers / WORKERS_AT_ONCE);
    if (this.writtenAt === null || this.now() - this.writtenAt < dueMs) return;
    this.dueMs = Math.min(EVERY_MS, 2 * this.dueMs);
    this.write();
  }

  workerLeft(worker: string): void {
    this.clock.left(worker);
  }

  /** What has not been written yet. */
  write(): void {
    const now = this.now();
    const seconds = (now - (this.writtenAt ?? now)) / 1000;
    this.writtenAt = now;
    const workers = [...this.clock.takeTotals()].map(([worker, totals]) => ({ worker, ...rounded(totals) }));
    if (workers.length > 0) this.events.append({ kind: "stages", seconds: tenths(seconds), workers });
  }
}

function rounded<Totals extends Readonly<Record<string, number>>>(totals: Totals): Totals {
  return Object.fromEntries(Object.entries(totals).map(([name, value]) => [name, tenths(value)])) as Totals;
}

function tenths(value: number): number {
  return Math.round(10 * value) / 10;
}
