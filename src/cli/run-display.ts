/** Shows and records a run: progress line, event file, log. The coordinator tells it what happens. */
import type { RunObserver, StepReport } from "../../coordinator/server.js";
import type { RunConfig } from "../config/index.js";
import type { EventFile, Logger, Progress } from "../telemetry/index.js";

export class RunDisplay implements RunObserver {
  /** kNN accuracy in [0, 1] of the first evaluation of this process, and of the last */
  first: { readonly step: number; readonly accuracy: number } | null = null;
  last: { readonly step: number; readonly accuracy: number } | null = null;

  constructor(
    private readonly config: RunConfig,
    private readonly progress: Progress,
    private readonly events: EventFile,
    private readonly logger: Logger,
    /** called after each update with the number of updates applied */
    private readonly onStep: (step: number) => void = () => undefined,
  ) {}

  stepDone(report: StepReport): void {
    this.events.append({ kind: "step", ...report });
    const { epochs, steps } = this.config.schedule;
    this.progress.step({ ...report, epochs: steps === null ? epochs : null });
    this.onStep(report.step);
  }

  evaluated(step: number, accuracy: number): void {
    this.first ??= { step, accuracy };
    this.last = { step, accuracy };
    this.events.append({ kind: "evaluated", step, accuracy });
    this.note(`kNN accuracy ${percent(accuracy)} at step ${step}${step === 0 ? " (untrained encoder)" : ""}`);
  }

  workerJoined(worker: string, workers: number): void {
    this.events.append({ kind: "worker-joined", worker, workers });
    this.note(`${worker} has joined (${workers} here)`);
  }

  workerLeft(worker: string, reason: string, workers: number): void {
    this.events.append({ kind: "worker-left", worker, reason, workers });
    this.note(`${worker} has left: ${reason} (${workers} here)`);
  }

  stepSkipped(step: number): void {
    this.events.append({ kind: "step-skipped", step });
    this.onStep(step);
  }

  straggler(worker: string, slow: boolean, paceMs: number, medianMs: number): void {
    this.events.append({ kind: "straggler", worker, slow, paceMs, medianMs });
    const times = `${paceMs.toFixed(0)} ms a rank, the others ${medianMs.toFixed(0)} ms`;
    if (slow) this.logger.warn(`${worker} is slow: ${times}; it gets fewer ranks`);
    else this.note(`${worker} is no longer slow: ${times}`);
  }

  notReproducible(worker: string, fingerprints: string): void {
    this.events.append({ kind: "not-reproducible", worker, fingerprints });
    this.logger.warn(`${worker} computes other bits (${fingerprints}): this run can no longer be repeated bit for bit`);
  }

  explained(reason: string): void {
    this.events.append({ kind: "explained", reason });
    this.note(reason);
  }

  dropped(peer: string, reason: string): void {
    this.events.append({ kind: "dropped", peer, reason });
    // The logger shows warnings to whoever watches.
    this.logger.warn({ peer }, `dropped: ${reason}`);
  }

  corrupt(name: string, count: number): void {
    const { maxCorrupt } = this.config.data;
    this.logger.warn(`image ${name} cannot be decoded; another stands in (${count} of at most ${maxCorrupt})`);
  }

  checkpointed(step: number, directory: string): void {
    this.events.append({ kind: "checkpointed", step, directory });
    this.note(`checkpoint of step ${step}: ${directory}`);
  }

  note(line: string): void {
    this.logger.info(line);
    this.progress.note(line);
  }
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
