/** How a run stands, as its events tell it. Pure. */
import type { TimedEvent } from "./events.js";

export interface WorkerStatus {
  readonly worker: string;
  readonly joinedAt: string;
  /** of a worker that is slow for long: mean time of a rank, and the others' median, in ms */
  readonly slow: { readonly paceMs: number; readonly medianMs: number } | null;
}

export interface RunStatus {
  readonly phase: "not begun" | "running" | "finished" | "stopped" | "failed";
  /** the arguments of `tandem` that take the run up */
  readonly again: string | null;
  /** address of the control plane */
  readonly control: string | null;
  /** address of the dashboard, without a token; null: none, or not known */
  readonly dashboard: string | null;
  readonly startedAt: string | null;
  readonly lastEventAt: string | null;
  readonly step: number;
  /** null before the first step */
  readonly totalSteps: number | null;
  readonly loss: number | null;
  readonly stepMs: number | null;
  readonly imagesPerSecond: number | null;
  readonly workers: readonly WorkerStatus[];
  /** what was said last, where no step has come since */
  readonly waiting: string | null;
  /** accuracies in [0, 1]: of kNN, and top-1 of a linear probe; null: there was none */
  readonly evaluated: { readonly step: number; readonly accuracy: number; readonly linear: number | null } | null;
  readonly checkpoint: { readonly step: number; readonly directory: string } | null;
  /** whether the same config gives the same bits again */
  readonly reproducible: boolean;
  readonly skippedSteps: number;
}

export const NOT_BEGUN: RunStatus = {
  ...{
    phase: "not begun",
    again: null,
    control: null,
    dashboard: null,
    startedAt: null,
    lastEventAt: null,
    step: 0,
    totalSteps: null,
  },
  ...{ loss: null, stepMs: null, imagesPerSecond: null, workers: [], waiting: null, evaluated: null },
  ...{ checkpoint: null, reproducible: true, skippedSteps: 0 },
};

/** @param events in the order in which they were written */
export async function runStatus(events: Iterable<TimedEvent> | AsyncIterable<TimedEvent>): Promise<RunStatus> {
  let status = NOT_BEGUN;
  for await (const event of events) status = statusAfter(status, event);
  return status;
}

export function statusAfter(status: RunStatus, event: TimedEvent): RunStatus {
  return { ...status, ...after(status, event), lastEventAt: event.time };
}

function after(status: RunStatus, event: TimedEvent): Partial<RunStatus> {
  switch (event.kind) {
    case "run-started": {
      const { again, control, dashboard = null, time: startedAt, step, reproducible } = event;
      // Whoever was here comes back under a name of the new coordinator's.
      return { phase: "running", again, control, dashboard, startedAt, step, reproducible, workers: [], waiting: null };
    }
    case "went-back":
      return { step: event.step, workers: [] };
    case "step": {
      const { step, totalSteps, loss, stepMs, imagesPerSecond } = event;
      return { step, totalSteps, loss, stepMs, imagesPerSecond, waiting: null };
    }
    case "step-skipped":
      return { step: event.step, skippedSteps: status.skippedSteps + 1, waiting: null };
    case "evaluated":
      return { evaluated: { step: event.step, accuracy: event.accuracy, linear: event.linear } };
    case "worker-joined": {
      const joined = { worker: event.worker, joinedAt: event.time, slow: null };
      return { workers: [...status.workers.filter(({ worker }) => worker !== event.worker), joined] };
    }
    case "worker-left":
      return { workers: status.workers.filter(({ worker }) => worker !== event.worker) };
    case "straggler": {
      const { slow, paceMs, medianMs } = event;
      const named = slow ? { paceMs, medianMs } : null;
      return {
        workers: status.workers.map((other) => (other.worker === event.worker ? { ...other, slow: named } : other)),
      };
    }
    case "not-reproducible":
      return { reproducible: false };
    case "explained":
      return { waiting: event.reason };
    case "checkpointed":
      return { checkpoint: { step: event.step, directory: event.directory } };
    case "run-ended":
      return { phase: event.outcome, step: event.step ?? status.step, workers: [], waiting: null };
    case "stages":
    case "events-lost":
    case "dropped":
    case "initialised":
    case "pictured":
      return {};
  }
}
