/** What a run's events say of where its time went and what it learnt, in one value. Pure. */
import {
  NOT_BEGUN,
  STAGES,
  statusAfter,
  type RunStatus,
  type Stage,
  type StageTotals,
  type TimedEvent,
} from "../telemetry/index.js";

/** Where the run's time by the clock went, in ms; together all of it while it was meant to go on. */
export interface Clock {
  /** of each start: until workers are here and the first step begins */
  readonly start: number;
  /** steps that the run has built on */
  readonly steps: number;
  /** steps that were made again, because what they had made before was lost */
  readonly repeated: number;
  readonly evaluations: number;
  /** for as many workers as there must be */
  readonly waiting: number;
  /** from a crash to the next start */
  readonly down: number;
  /** the last checkpoint, and farewells */
  readonly end: number;
  /** between two steps, for nothing of these */
  readonly other: number;
}

/** Where the time of a step went at the workers. */
export interface WorkerTime {
  /** its name of late; another coordinator gives another one */
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly totals: StageTotals;
}

/** Numbers of steps, in the order in which they were made; a number each for every step. */
export type StepColumns = Readonly<Record<StepColumn, readonly number[]>>;
const STEP_COLUMNS = ["step", "stepMs", "loss", "learningRate", "positiveSimilarity", "negativeSimilarity", "accuracy", "graphMs", "forwardMs", "backwardMs", "loadMs", "exchangeMs"] as const; // prettier-ignore
type StepColumn = (typeof STEP_COLUMNS)[number];

export interface RunSummary {
  readonly status: RunStatus;
  /** times that a coordinator began or took it up, and how many of these followed a crash */
  readonly starts: number;
  readonly crashes: number;
  readonly clock: Clock;
  readonly steps: StepColumns;
  /** samples of a step, by the events; null: no step */
  readonly globalBatch: number | null;
  /** of an epoch, but for those of a last batch that is not whole; null: no epoch is over */
  readonly samples: number | null;
  /** steps made again */
  readonly repeatedSteps: number;
  readonly skippedSteps: number;
  /** empty: the events do not say, as those of runs that were made before they did */
  readonly workers: readonly WorkerTime[];
  /** devices of those that are here, or were when the run ended */
  readonly devices: number;
  /** workers that were lost while others went on; `stepMs`: of the step in which it happened */
  readonly losses: readonly { readonly worker: string; readonly reason: string; readonly stepMs: number | null }[];
  /** who was named slow last, and not taken back */
  readonly stragglers: readonly { readonly worker: string; readonly paceMs: number; readonly medianMs: number }[];
  readonly checkpoints: {
    readonly written: number;
    /** because the one before was still being written, or the disk refused */
    readonly leftOut: number;
    /** of steps that were made while one was written */
    readonly beside: readonly number[];
  };
  readonly evaluations: readonly { readonly step: number; readonly accuracy: number }[];
  /** whose engine computes other bits */
  readonly mixed: readonly string[];
  readonly refused: number;
  /** of the coordinator's; null: it began before it said so, or has not begun */
  readonly eventsLost: number;
}

/** @param events in the order in which they were written; memory grows with the steps, by about 100 bytes each */
export async function summaryOf(events: Iterable<TimedEvent> | AsyncIterable<TimedEvent>): Promise<RunSummary> {
  const account = new Account();
  for await (const event of events) account.take(event);
  return account.summary;
}

type Piece = keyof Clock;

class Account {
  private status = NOT_BEGUN;
  private readonly clock: Record<Piece, number> = { start: 0, steps: 0, repeated: 0, evaluations: 0, waiting: 0, down: 0, end: 0, other: 0 }; // prettier-ignore
  private readonly steps = Object.fromEntries(STEP_COLUMNS.map((name) => [name, [] as number[]])) as Record<StepColumn, number[]>; // prettier-ignore
  /** by host and process */
  private readonly workers = new Map<string, WorkerTime>();
  /** by name */
  private readonly joined = new Map<string, { readonly host: string; readonly pid: number }>();
  private here = new Map<string, number>();
  private mostDevices = 0;
  private readonly losses: { worker: string; reason: string; stepMs: number | null }[] = [];
  private readonly slow = new Map<string, { worker: string; paceMs: number; medianMs: number }>();
  private readonly evaluations: { step: number; accuracy: number }[] = [];
  private readonly mixed = new Set<string>();
  private readonly beside: number[] = [];
  private counts = { starts: 0, crashes: 0, repeated: 0, written: 0, leftOut: 0, refused: 0, lost: 0 };
  private globalBatch: number | null = null;
  private samples: number | null = null;
  private furthest = 0;
  /** up to where time is accounted for, Unix time in ms */
  private accounted = 0;
  /** what the time is for that passes before a step begins */
  private meanwhile: Piece = "start";
  private isRunning = false;
  /** times and lengths of steps since the checkpoint that is being written was due */
  private sinceDue: { step: number; stepMs: number }[] = [];

  take(event: TimedEvent): void {
    const now = Date.parse(event.time);
    this.status = statusAfter(this.status, event);
    switch (event.kind) {
      case "run-started":
        if (this.isRunning) {
          this.counts.crashes++;
          this.passed("down", now);
        }
        this.accounted = now;
        this.meanwhile = "start";
        this.isRunning = true;
        this.counts.starts++;
        this.here = new Map();
        this.sinceDue = [];
        return;
      case "worker-joined": {
        const { worker, host, pid, devices } = event;
        this.joined.set(worker, { host: host ?? "?", pid: pid ?? 0 });
        this.here.set(worker, devices);
        this.mostDevices = this.devices;
        if (this.meanwhile === "start" || this.meanwhile === "waiting") this.passed(this.meanwhile, now);
        return;
      }
      case "worker-left":
        this.here.delete(event.worker);
        if (this.devices > 0) this.mostDevices = this.devices;
        this.slow.delete(event.worker);
        if (event.reason !== "drained") this.losses.push({ worker: event.worker, reason: event.reason, stepMs: null });
        return;
      case "explained":
        if (/^waiting: \d+ of at least/.test(event.reason) && this.meanwhile !== "start") this.meanwhile = "waiting";
        if (event.reason.startsWith("the checkpoint of step")) this.counts.leftOut++;
        return;
      case "evaluated":
        this.evaluations.push({ step: event.step, accuracy: event.accuracy });
        this.passed("evaluations", now);
        return;
      case "step":
        this.stepMade(event, now);
        return;
      case "step-skipped":
        this.passed("steps", now);
        this.meanwhile = "other";
        return;
      case "went-back":
        this.meanwhile = "start";
        this.here = new Map();
        return;
      case "stages":
        for (const { worker, ...totals } of event.workers) this.worked(worker, totals);
        return;
      case "straggler": {
        const { worker, paceMs, medianMs } = event;
        if (event.slow) this.slow.set(worker, { worker, paceMs, medianMs });
        else this.slow.delete(worker);
        return;
      }
      case "checkpointed":
        this.counts.written++;
        for (const { step, stepMs } of this.sinceDue) if (step > event.step) this.beside.push(stepMs);
        this.sinceDue = [];
        return;
      case "not-reproducible":
        this.mixed.add(event.worker);
        return;
      case "dropped":
        this.counts.refused++;
        return;
      case "events-lost":
        this.counts.lost += event.events;
        return;
      case "run-ended":
        this.passed(this.meanwhile === "start" ? "start" : "end", now);
        this.isRunning = false;
        return;
      case "initialised":
      case "pictured":
        return;
    }
  }

  get summary(): RunSummary {
    const { status, clock, steps, losses, evaluations, counts, globalBatch, samples, mostDevices: devices } = this;
    const { starts, crashes, repeated: repeatedSteps, written, leftOut, refused, lost: eventsLost } = counts;
    return {
      ...{
        status,
        starts,
        crashes,
        clock,
        steps,
        globalBatch,
        samples,
        repeatedSteps,

        devices,
        losses,
        evaluations,
      },
      ...{ skippedSteps: status.skippedSteps, refused, eventsLost, mixed: [...this.mixed] },
      workers: [...this.workers.values()],
      stragglers: [...this.slow.values()],
      checkpoints: { written, leftOut, beside: this.beside },
    };
  }

  private get devices(): number {
    return [...this.here.values()].reduce((all, devices) => all + devices, 0);
  }

  private stepMade(event: Extract<TimedEvent, { kind: "step" }>, now: number): void {
    const { step, stepMs, imagesPerSecond, epoch } = event;
    this.passed(this.meanwhile, now - stepMs);
    const isAgain = step <= this.furthest;
    if (isAgain) this.counts.repeated++;
    this.passed(isAgain ? "repeated" : "steps", now);
    this.meanwhile = "other";
    this.furthest = Math.max(this.furthest, step);
    this.globalBatch = Math.round((imagesPerSecond * stepMs) / 1000);
    if (epoch === 1) this.samples ??= (step - 1) * this.globalBatch;
    for (const name of STEP_COLUMNS) this.steps[name].push(event[name] ?? NaN);
    for (const loss of this.losses.filter(({ stepMs: known }) => known === null)) loss.stepMs = stepMs;
    // Longer than a checkpoint takes: it was none of these.
    this.sinceDue = [...this.sinceDue.slice(1 - MOST_BESIDE), { step, stepMs }];
  }

  private worked(worker: string, totals: StageTotals): void {
    const { host, pid } = this.joined.get(worker) ?? { host: "?", pid: 0 };
    const name = `${host} ${pid === 0 ? worker : String(pid)}`;
    this.workers.set(name, { worker, host, pid, totals: sum(this.workers.get(name)?.totals, totals) });
  }

  private passed(piece: Piece, until: number): void {
    this.clock[piece] += Math.max(0, until - this.accounted);
    this.accounted = Math.max(this.accounted, until);
  }
}

/** Steps that can be made while a checkpoint is written, at most that are looked at. */
const MOST_BESIDE = 256;

function sum(before: StageTotals | undefined, more: StageTotals): StageTotals {
  if (before === undefined) return more;
  const names = Object.keys(more) as (keyof StageTotals)[];
  return Object.fromEntries(names.map((name) => [name, before[name] + more[name]])) as StageTotals;
}

/** All of it, in ms. */
export function wallMs({ clock }: RunSummary): number {
  return Object.values<number>({ ...clock }).reduce((all, ms) => all + ms, 0);
}

/** Of all workers' time in steps, the share of each stage, 0 to 1; null: the events do not say. */
export function stageShares({ workers }: RunSummary): Readonly<Record<Stage, number>> | null {
  const sums = STAGES.map((stage) => workers.reduce((all, { totals }) => all + totals[stage], 0));
  const all = sums.reduce((total, ms) => total + ms, 0);
  if (all === 0) return null;
  return Object.fromEntries(STAGES.map((stage, index) => [stage, (sums[index] ?? 0) / all])) as Record<Stage, number>;
}

/** @returns NaN where there is none */
export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values.filter(Number.isFinite)).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

export function mean(values: readonly number[]): number {
  const finite = values.filter(Number.isFinite);
  return finite.reduce((all, value) => all + value, 0) / finite.length;
}
