/**
 * Shows a run's progress: on a terminal one live line, rewritten in place and gone at the end; elsewhere one line at an
 * interval. Everything else that is said meanwhile goes through `note`, which keeps it above the live line.
 */
import { fitted, progressLine, type StepProgress } from "./progress-line.js";

/** How often the live line is rewritten at most, in ms. */
const LIVE_INTERVAL_MS = 100;
/** How often a line is written where there is no terminal, in ms. */
export const LINE_INTERVAL_MS = 10_000;
/** To the first column, and erase the line (ECMA-48 EL 2). */
const CLEAR = "\r\u001b[2K";
/** Columns of a terminal that does not tell. */
const DEFAULT_COLUMNS = 80;

/** What is needed of `process.stderr`. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class Progress {
  private readonly interval: number;
  private live: string | null = null;
  private shownAt: number | null = null;
  private first: { readonly step: number; readonly at: number } | null = null;

  /** @param now monotonic clock in ms */
  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number = () => performance.now(),
    lineIntervalMs: number = LINE_INTERVAL_MS,
  ) {
    this.interval = stream.isTTY === true ? LIVE_INTERVAL_MS : lineIntervalMs;
  }

  step(progress: StepProgress): void {
    const at = this.now();
    this.first ??= { step: progress.step, at };
    const isLast = progress.step >= progress.totalSteps;
    if (!isLast && this.shownAt !== null && at - this.shownAt < this.interval) return;
    this.shownAt = at;
    const line = progressLine(progress, this.timeLeft(progress, at));
    if (this.stream.isTTY === true) this.draw(line);
    else this.stream.write(`${line}\n`);
  }

  /** One line that stays. */
  note(line: string): void {
    this.erase();
    this.stream.write(`${line}\n`);
    if (this.live !== null) this.draw(this.live);
  }

  /** Takes the live line away. */
  end(): void {
    this.erase();
    this.live = null;
  }

  /** From the mean pace since this process began: evaluations and checkpoints on the way count. */
  private timeLeft({ step, totalSteps }: StepProgress, at: number): number | null {
    if (this.first === null || step === this.first.step) return null;
    return ((at - this.first.at) / (step - this.first.step)) * (totalSteps - step);
  }

  private draw(line: string): void {
    this.live = line;
    this.stream.write(CLEAR + fitted(line, this.stream.columns ?? DEFAULT_COLUMNS));
  }

  private erase(): void {
    if (this.live !== null) this.stream.write(CLEAR);
  }
}
