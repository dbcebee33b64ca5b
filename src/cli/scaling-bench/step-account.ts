/** Where the workers' time of a step goes, in parts that add up to it; from the moments that a coordinator tells of. */
import type { Moment } from "../../telemetry/index.js";

/**
 * Means over the workers, ms of a step. A step lasts from one update's end to the next one's; a worker is busy while it loads and computes.
 * - load: batches that were not ready when their rank was due
 * - compute: forward and backward
 * - imbalance: by how much the busiest worker was busier than the mean: more ranks, a slower core
 * - wait: what else passes between a worker's last result and the last of all: it was given weights earlier, or its results took less long
 * - send: from the last result to the last gradient's arrival
 * - aggregate: last sums, optimizer and momentum update
 * - broadcast: the rest: weights and keys on their way to the engines, results on their way to the coordinator
 */
export const PARTS = ["load", "compute", "imbalance", "wait", "send", "aggregate", "broadcast"] as const;
export type Part = (typeof PARTS)[number];
export type Parts = Readonly<Record<Part, number>>;

export interface StepTime {
  readonly stepMs: number;
  /** in ms; they add up to `stepMs` */
  readonly parts: Parts;
}

/** What a worker has done in the open step: ms, and when its last result was in. */
interface Share {
  readonly loadMs: number;
  readonly computeMs: number;
  readonly doneAt: number;
}

export class StepAccount {
  /** in order */
  readonly steps: StepTime[] = [];
  private readonly open = new Map<string, Share>();
  private begunAt: number | null = null;
  private updateBegunAt = 0;

  /**
   * @param workers who take part in every step, be it without a rank
   * @param now clock in ms
   */
  constructor(
    private readonly workers: number,
    private readonly now: () => number,
  ) {}

  happened(moment: Moment): void {
    switch (moment.kind) {
      case "heard":
        return;
      case "step-opened":
        this.begunAt ??= this.now();
        return;
      case "rank-done": {
        const { loadMs, forwardMs, backwardMs } = moment.metrics;
        const before = this.open.get(moment.worker) ?? { loadMs: 0, computeMs: 0 };
        this.open.set(moment.worker, {
          loadMs: before.loadMs + loadMs,
          computeMs: before.computeMs + forwardMs + backwardMs,
          doneAt: this.now(),
        });
        return;
      }
      case "update-begun":
        this.updateBegunAt = this.now();
        return;
      case "update-done": {
        const now = this.now();
        this.steps.push(this.account(this.begunAt ?? now, now));
        this.begunAt = now;
        this.open.clear();
      }
    }
  }

  private account(begunAt: number, endedAt: number): StepTime {
    const shares = [...this.open.values()];
    while (shares.length < this.workers) shares.push({ loadMs: 0, computeMs: 0, doneAt: begunAt });
    const mean = (of: (share: Share) => number) => shares.reduce((sum, share) => sum + of(share), 0) / shares.length;
    const busy = ({ loadMs, computeMs }: Share) => loadMs + computeMs;
    const allDoneAt = Math.max(...shares.map(({ doneAt }) => doneAt));
    const idle = mean(({ doneAt }) => allDoneAt - doneAt);
    const imbalance = Math.min(idle, Math.max(...shares.map(busy)) - mean(busy));
    const [load, compute] = [mean(({ loadMs }) => loadMs), mean(({ computeMs }) => computeMs)];
    const send = this.updateBegunAt - allDoneAt;
    const aggregate = endedAt - this.updateBegunAt;
    const stepMs = endedAt - begunAt;
    const broadcast = stepMs - load - compute - idle - send - aggregate;
    return { stepMs, parts: { load, compute, imbalance, wait: idle - imbalance, send, aggregate, broadcast } };
  }
}

/** @param times at least one @returns of each part the mean, so that they still add up */
export function meanTime(times: readonly StepTime[]): StepTime {
  const mean = (of: (time: StepTime) => number) => times.reduce((sum, time) => sum + of(time), 0) / times.length;
  return { stepMs: mean(({ stepMs }) => stepMs), parts: byPart((part) => mean(({ parts }) => parts[part])) };
}

/** The mean of the middle half of the steps by their length: a pause of the machine is in none of it, and the parts still add up. */
export function middleHalf(times: readonly StepTime[]): StepTime {
  const sorted = [...times].sort((a, b) => a.stepMs - b.stepMs);
  const cut = Math.floor(sorted.length / 4);
  return meanTime(sorted.slice(cut, sorted.length - cut));
}

export function byPart(make: (part: Part) => number): Parts {
  return Object.fromEntries(PARTS.map((part) => [part, make(part)])) as unknown as Parts;
}
