/** Shows and records a run: progress line, event file, log. The coordinator tells it what happens. */
import type { InitialReport } from "../../coordinator/initial-weights.js";
import type { Scores } from "../../coordinator/evaluation-thread.js";
import type { RunObserver, StepReport } from "../../coordinator/server.js";
import { modalityOf, type RunConfig } from "../config/index.js";
import type { EventFile, JoinedWorker, Logger, Moment, PictureNote, Progress, Timeline } from "../telemetry/index.js";

export class RunDisplay implements RunObserver {
  /** kNN accuracy in [0, 1] of the first evaluation of this process, and of the last */
  first: { readonly step: number; readonly accuracy: number } | null = null;
  last: { readonly step: number; readonly accuracy: number } | null = null;

  /** what the encoder is at step 0 */
  private atFirst = "untrained encoder";

  constructor(
    private readonly config: RunConfig,
    private readonly progress: Progress,
    private readonly events: EventFile,
    private readonly logger: Logger,
    /** called after each update with the number of updates applied */
    private readonly onStep: (step: number) => void = () => undefined,
    /** null: none is kept */
    private readonly timeline: Timeline | null = null,
  ) {}

  initialised({ sha256, prefix, matched, missing, unexpected, elsewhere }: InitialReport): void {
    this.atFirst = "the weights of --init";
    this.events.append({ kind: "initialised", sha256, matched: matched.length, missing });
    const under = prefix === "" ? "" : ` behind ${prefix}`;
    this.note(`weights of sha256 ${sha256.slice(0, 12)}: ${matched.length} tensors of the backbone matched${under}`);
    if (missing.length > 0) this.logger.warn(`missing there, and drawn: ${named(missing)}`);
    if (unexpected.length > 0) this.note(`left out, heads among them: ${named(unexpected)}`);
    if (elsewhere > 0) this.note(`left out: ${elsewhere} tensors that are not behind ${prefix}`);
  }

  stepDone(report: StepReport): void {
    this.events.append({ kind: "step", ...report });
    const { epochs, steps } = this.config.schedule;
    const samples = modalityOf(this.config) === "text" ? "texts" : "images";
    this.progress.step({ ...report, samples, epochs: steps === null ? epochs : null });
    this.onStep(report.step);
  }

  evaluated(step: number, { knn: accuracy, linear }: Scores): void {
    this.first ??= { step, accuracy };
    this.last = { step, accuracy };
    this.events.append({ kind: "evaluated", step, accuracy, linear: linear?.top1 ?? null });
    if (linear !== null)
      this.note(`linear accuracy ${percent(linear.top1)} top-1, ${percent(linear.top5)} top-5 at step ${step}`);
    this.note(`kNN accuracy ${percent(accuracy)} at step ${step}${step === 0 ? ` (${this.atFirst})` : ""}`);
  }

  pictured(note: PictureNote): void {
    this.events.append({ kind: "pictured", ...note });
  }

  notPictured(reason: string): void {
    this.logger.warn(`no pictures of this run: ${reason}`);
  }

  workerJoined(joined: JoinedWorker, workers: number): void {
    const { worker, devices } = joined;
    this.events.append({ kind: "worker-joined", ...joined, workers });
    const team = devices === 1 ? "" : ` with ${devices} devices`;
    this.note(`${worker} has joined${team} (${workers} here)`);
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

  happened(moment: Moment): void {
    this.timeline?.happened(moment);
  }

  wentBack(step: number): void {
    this.events.append({ kind: "went-back", step });
    this.note(`going on from step ${step}`);
  }

  note(line: string): void {
    this.logger.info(line);
    this.progress.note(line);
  }
}

/** Names of a list to be looked at. */
const MOST_NAMED = 8;

function named(names: readonly string[]): string {
  const more = names.length - MOST_NAMED;
  return names.slice(0, MOST_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** Whether the same config gives a run's bits again, as told to the user. */
export function reproducibility(reproducible: boolean): string {
  return reproducible ? "reproducible" : "not reproducible: workers of several kinds have taken part";
}

/** A line for whoever watches, of a command that shows no progress. */
export function warn(message: string): void {
  process.stderr.write(`tandem: ${message}\n`);
}
