/** What the dashboard shows of a run, made of its events (those of before, too) and of what happens. No socket, no file. */
import { queueRowLength, type RunConfig } from "../config/index.js";
import { SOFTWARE_VERSION } from "../protocol/version.js";
import {
  STAGES,
  StageClock,
  type Moment,
  type PictureKind,
  type PictureNote,
  type Shares,
  type StageTotals,
  type TimedEvent,
} from "../telemetry/index.js";
import { History } from "./history.js";

/** Something on the charts' time axis. */
export interface Mark {
  /** Unix, in s */
  readonly time: number;
  readonly kind: "joined" | "left" | "straggler" | "checkpoint" | "refused" | "skipped" | "started" | "ended" | "note";
  readonly text: string;
}

export interface WorkerView {
  readonly worker: string;
  readonly state: "at work" | "slow" | "gone";
  /** why it is gone */
  readonly reason: string | null;
  readonly host: string;
  readonly pid: number;
  readonly device: string;
  readonly devices: number;
  /** how often it has joined beyond the first time */
  readonly rejoined: number;
  readonly ranks: number;
  /** mean of its last ones, in ms */
  readonly rankMs: number | null;
  /** since it was heard of last, in s */
  readonly silentS: number | null;
  /** payload a second over its last ranks, in bytes */
  readonly sentPerS: number | null;
  readonly receivedPerS: number | null;
  readonly shares: Shares | null;
}

export interface Evaluated {
  readonly time: number;
  readonly step: number;
  readonly accuracy: number;
}

/** What changes from second to second. */
export interface Now {
  readonly phase: "waiting" | "running" | "finished" | "stopped" | "failed";
  readonly step: number;
  readonly totalSteps: number | null;
  readonly epoch: number | null;
  readonly workers: readonly WorkerView[];
  /** this moment's rate to that of the same devices if they never waited, 0 to 1 */
  readonly efficiency: number | null;
  /** null: the method has none */
  readonly queue: { readonly size: number; readonly filled: number; readonly oldestSteps: number } | null;
  readonly checkpoint: { readonly step: number; readonly time: number } | null;
  readonly version: string;
  /** Unix, in s */
  readonly time: number;
}

/** Memory is bounded by these: marks, evaluations, workers that are gone, seconds for which those are shown. */
const MOST_MARKS = 1000;
const MOST_EVALUATIONS = 4096;
const MOST_GONE = 32;
const GONE_FOR_S = 600;
/** Weight of a rank in the means of a worker's. */
const WEIGHT = 0.1;

interface Known {
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly device: string;
  readonly devices: number;
  rejoined: number;
  ranks: number;
  rankMs: number | null;
  idleMs: number;
  sentBytes: number;
  receivedBytes: number;
  isSlow: boolean;
  /** as the run's events have it, where nobody tells of its results as they come */
  shares: Shares | null;
  /** clock in ms */
  heardAt: number | null;
  gone: { readonly at: number; readonly reason: string } | null;
}

export class RunView {
  readonly history = new History();
  readonly marks: Mark[] = [];
  readonly evaluations: Evaluated[] = [];
  /** the latest of each kind */
  readonly pictures = new Map<PictureKind, PictureNote>();
  /** pictures that there were so far */
  picturesMade = 0;
  /** marks that there were before those that are kept */
  marksForgotten = 0;
  private readonly stages: StageClock;
  private readonly workers = new Map<string, Known>();
  private phase: Now["phase"] = "waiting";
  private step = 0;
  private totalSteps: number | null = null;
  private epoch: number | null = null;
  private checkpoint: Now["checkpoint"] = null;

  /** @param now Unix time in ms */
  constructor(
    private readonly config: RunConfig,
    private readonly now: () => number,
  ) {
    this.stages = new StageClock(now);
  }

  /** An event of the run's, in order. */
  take(event: TimedEvent): void {
    const time = Date.parse(event.time) / 1000;
    const mark = (kind: Mark["kind"], text: string) => {
      this.marks.push({ time, kind, text });
      const excess = this.marks.length - MOST_MARKS;
      if (excess > 0) this.marks.splice(0, excess);
      this.marksForgotten += Math.max(0, excess);
    };
    switch (event.kind) {
      case "run-started":
        this.phase = "waiting";
        this.step = event.step;
        this.history.forget(event.step);
        for (const known of this.workers.values()) this.lose(known, time, "the coordinator was started again");
        mark("started", event.resumed ? `taken up at step ${String(event.step)}` : "begun");
        return;
      case "step": {
        this.phase = "running";
        [this.step, this.totalSteps, this.epoch] = [event.step, event.totalSteps, event.epoch];
        const { loss, learningRate, positiveSimilarity, negativeSimilarity, accuracy, imagesPerSecond } = event;
        const numbers = { loss, learningRate, positiveSimilarity, negativeSimilarity, accuracy, imagesPerSecond };
        this.history.add({ ...numbers, time, step: event.step, stepMs: event.stepMs, workers: event.workers });
        return;
      }
      case "step-skipped":
        this.step = event.step;
        mark("skipped", `step ${String(event.step)} left out: not finite`);
        return;
      case "went-back":
        this.step = event.step;
        this.history.forget(event.step);
        mark("note", `back at step ${String(event.step)}: an aggregator was lost`);
        return;
      case "evaluated":
        this.evaluations.push({ time, step: event.step, accuracy: event.accuracy });
        if (this.evaluations.length > MOST_EVALUATIONS) this.evaluations.shift();
        return;
      case "pictured": {
        const { step, picture, width, height, legend, alt } = event;
        this.pictures.set(picture, { step, picture, width, height, legend, alt });
        this.picturesMade++;
        return;
      }
      case "worker-joined":
        this.join(event);
        mark("joined", `${event.worker} has joined`);
        return;
      case "worker-left": {
        const known = this.workers.get(event.worker);
        if (known !== undefined) this.lose(known, time, event.reason);
        mark("left", `${event.worker} has left: ${event.reason}`);
        return;
      }
      case "straggler": {
        const known = this.workers.get(event.worker);
        if (known !== undefined) known.isSlow = event.slow;
        mark("straggler", `${event.worker} is ${event.slow ? "slow" : "no longer slow"}`);
        return;
      }
      case "checkpointed":
        this.checkpoint = { step: event.step, time };
        mark("checkpoint", `checkpoint of step ${String(event.step)}`);
        return;
      case "dropped":
        mark("refused", `${event.peer}: ${event.reason}`);
        return;
      case "run-ended":
        this.phase = event.outcome;
        mark("ended", event.outcome);
        return;
      case "explained":
        mark("note", event.reason);
        return;
      case "not-reproducible":
        mark("note", `${event.worker} computes other bits`);
        return;
      case "stages":
        for (const totals of event.workers) this.sum(totals, event.seconds);
        return;
      case "initialised":
      case "events-lost":
    }
  }

  happened(moment: Moment): void {
    this.stages.happened(moment);
    if (moment.kind !== "rank-done" && moment.kind !== "heard") return;
    const known = this.workers.get(moment.worker);
    if (known === undefined) return;
    known.heardAt = this.now();
    if (moment.kind === "heard") return;
    const { loadMs, forwardMs, backwardMs, exchangeMs, sentBytes, receivedBytes } = moment.metrics;
    const mean = (before: number, value: number) =>
      known.rankMs === null ? value : before + WEIGHT * (value - before);
    known.idleMs = mean(known.idleMs, exchangeMs);
    known.sentBytes = mean(known.sentBytes, sentBytes);
    known.receivedBytes = mean(known.receivedBytes, receivedBytes);
    known.rankMs = mean(known.rankMs ?? 0, loadMs + forwardMs + backwardMs);
    known.ranks++;
  }

  get current(): Now {
    const { phase, step, totalSteps, epoch, checkpoint } = this;
    const time = this.now() / 1000;
    this.forgetGone(time);
    const workers = [...this.workers.values()].map((known) => this.viewOf(known));
    const busy = workers.filter(({ state, shares }) => state !== "gone" && shares !== null);
    const working = ({ load, forward, backward }: Shares) => load + forward + backward;
    const devices = busy.reduce((sum, worker) => sum + worker.devices, 0);
    const worked = busy.reduce(
      (sum, { shares, devices: own }) => sum + own * (shares === null ? 0 : working(shares)),
      0,
    );
    return {
      ...{ phase, step, totalSteps, epoch, checkpoint, workers, time },
      efficiency: devices === 0 ? null : worked / devices,
      queue: this.queue(),
      version: SOFTWARE_VERSION,
    };
  }

  /** Of whom each result is heard of, all of this is known already. */
  private sum(
    { worker, ranks, sentBytes, receivedBytes, ...ms }: { readonly worker: string } & StageTotals,
    seconds: number,
  ): void {
    // prettier-ignore
    const known = this.workers.get(worker);
    if (known === undefined || ranks === 0 || this.stages.sharesOf(worker) !== null) return;
    const all = STAGES.reduce((total, stage) => total + ms[stage], 0);
    if (all > 0) known.shares = Object.fromEntries(STAGES.map((stage) => [stage, ms[stage] / all])) as Shares;
    known.ranks += ranks;
    known.rankMs = (ms.load + ms.forward + ms.backward) / ranks;
    known.idleMs = Math.max(0, (1000 * seconds) / ranks - known.rankMs);
    known.sentBytes = sentBytes / ranks;
    known.receivedBytes = receivedBytes / ranks;
  }

  private queue(): Now["queue"] {
    const { config, step } = this;
    if (queueRowLength(config) === 0) return null;
    const size = config.moco.queueSize;
    const batch = config.parallel.worldSize * config.parallel.batchSize;
    const steps = Math.min(step, Math.ceil(size / batch));
    return { size, filled: Math.min(size, step * batch), oldestSteps: steps };
  }

  private join(event: Extract<TimedEvent, { kind: "worker-joined" }>): void {
    const { worker, devices } = event;
    const before = this.workers.get(worker);
    this.workers.set(worker, {
      ...{ worker, devices, ranks: before?.ranks ?? 0, rejoined: before === undefined ? 0 : before.rejoined + 1 },
      // Runs of before had not all of these in their events.
      ...{ host: event.host ?? "", pid: event.pid ?? 0, device: event.device ?? "" },
      ...{ rankMs: null, idleMs: 0, sentBytes: 0, receivedBytes: 0 },
      ...{ isSlow: false, shares: null, heardAt: this.now(), gone: null },
    });
  }

  private lose(known: Known, at: number, reason: string): void {
    known.gone ??= { at, reason };
    this.stages.left(known.worker);
  }

  private forgetGone(time: number): void {
    const gone = [...this.workers.values()].flatMap(({ worker, gone: since }) => (since === null ? [] : [{ worker, at: since.at }])); // prettier-ignore
    const newest = gone.sort((one, other) => other.at - one.at);
    for (const [place, { worker, at }] of newest.entries())
      if (place >= MOST_GONE || time - at > GONE_FOR_S) this.workers.delete(worker);
  }

  private viewOf(known: Known): WorkerView {
    const { worker, host, pid, device, devices, rejoined, ranks, rankMs, idleMs, gone, heardAt } = known;
    const perS = (bytes: number) =>
      rankMs === null || gone !== null ? null : (1000 * bytes) / Math.max(1, rankMs + idleMs);
    return {
      ...{ worker, host, pid, device, devices, rejoined, ranks, rankMs },
      state: gone !== null ? "gone" : known.isSlow ? "slow" : "at work",
      reason: gone?.reason ?? null,
      silentS: heardAt === null ? null : (this.now() - heardAt) / 1000,
      sentPerS: perS(known.sentBytes),
      receivedPerS: perS(known.receivedBytes),
      shares: gone === null ? (this.stages.sharesOf(worker) ?? known.shares) : null,
    };
  }
}
