/** `events.jsonl`: what happened in a run, one JSON object a line, appended by the coordinator. */
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";

export type RunEvent =
  | { readonly kind: "run-started"; readonly control: string; readonly resumed: boolean }
  | ({ readonly kind: "step"; readonly step: number } & StepNumbers)
  /** kNN accuracy in [0, 1] */
  | { readonly kind: "evaluated"; readonly step: number; readonly accuracy: number }
  | { readonly kind: "worker-joined"; readonly worker: string; readonly workers: number }
  | { readonly kind: "worker-left"; readonly worker: string; readonly reason: string; readonly workers: number }
  /** its loss or gradient was not finite */
  | { readonly kind: "step-skipped"; readonly step: number }
  /** a worker is slow for long, or no longer; mean time of a rank, and the others' median, in ms */
  | {
      readonly kind: "straggler";
      readonly worker: string;
      readonly slow: boolean;
      readonly paceMs: number;
      readonly medianMs: number;
    }
  /** a worker whose engine computes other bits was admitted */
  | { readonly kind: "not-reproducible"; readonly worker: string; readonly fingerprints: string }
  | { readonly kind: "explained"; readonly reason: string }
  /** so many events before this one could not be written */
  | { readonly kind: "events-lost"; readonly events: number }
  | { readonly kind: "dropped"; readonly peer: string; readonly reason: string }
  | { readonly kind: "checkpointed"; readonly step: number; readonly directory: string }
  | { readonly kind: "run-ended"; readonly outcome: "finished" | "stopped" | "failed"; readonly step: number | null };

/** Means over the ranks of a step; times in ms. */
export interface StepNumbers {
  readonly totalSteps: number;
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly positiveSimilarity: number;
  readonly negativeSimilarity: number;
  readonly learningRate: number;
  readonly stepMs: number;
  readonly loadMs: number;
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly exchangeMs: number;
  /** of forward and backward, what was spent within TensorFlow's graph; 0 when running eagerly */
  readonly graphMs: number;
  readonly imagesPerSecond: number;
  readonly workers: number;
}

const NEWLINE = 0x0a;

/** Opened at the first event; an event is in the file when `append` returns, unless the disk refuses: that costs events, not the run. */
export class EventFile {
  private descriptor: number | null = null;
  private isTorn = false;
  /** events that could not be written since one was */
  private lost = 0;

  constructor(
    private readonly path: string,
    private readonly now: () => Date = () => new Date(),
  ) {}

  append(event: RunEvent): void {
    const time = this.now().toISOString();
    try {
      if (this.lost > 0) {
        this.write(
          JSON.stringify({ time, kind: "events-lost", events: this.lost } satisfies RunEvent & { time: string }),
        );
        this.lost = 0;
      }
      this.write(JSON.stringify({ time, ...event }));
    } catch (error) {
      // Errors of the system carry its number: a full disk, a read-only one.
      if (!(error instanceof Error && "errno" in error)) throw error;
      this.lost++;
    }
  }

  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
  }

  private write(line: string): void {
    this.descriptor ??= this.open();
    const bytes = Buffer.from(`${this.isTorn ? "\n" : ""}${line}\n`);
    // Before the disk is full it may take a part.
    this.isTorn = true;
    for (let rest = bytes; rest.length > 0;) rest = rest.subarray(writeSync(this.descriptor, rest));
    this.isTorn = false;
  }

  /** A process that was killed in the middle of a line has left half of one: the next begins on its own. */
  private open(): number {
    mkdirSync(dirname(this.path), { recursive: true });
    const descriptor = openSync(this.path, "a+");
    const { size } = fstatSync(descriptor);
    const last = Buffer.alloc(1, NEWLINE);
    if (size > 0) readSync(descriptor, last, 0, 1, size - 1);
    this.isTorn = last[0] !== NEWLINE;
    return descriptor;
  }
}
