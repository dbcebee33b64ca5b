/** `events.jsonl`: what happened in a run, one JSON object a line, appended by the coordinator. */
import { closeSync, createReadStream, fstatSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import type { RankMetrics } from "../protocol/rank-metrics.js";
import { STAGES, type StageTotals } from "./stages.js";

export type RunEvent =
  /**
   * `again`: the arguments of `tandem` that take the run up; `step`: where it goes on; `reproducible`: whether all that it
   * builds on can be repeated bit for bit; `dashboard`: its address, without a token (null: none; runs of before do not say)
   */
  | {
      readonly kind: "run-started";
      readonly again: string;
      readonly control: string;
      readonly resumed: boolean;
      readonly step: number;
      readonly reproducible: boolean;
      readonly dashboard?: string | null;
    }
  /** the run began with weights from a file: its sha256 in hex, and how many tensors of the backbone it had */
  | {
      readonly kind: "initialised";
      readonly sha256: string;
      readonly matched: number;
      readonly missing: readonly string[];
    }
  | ({ readonly kind: "step"; readonly step: number } & StepNumbers)
  /** what workers have done in the last `seconds`, and where their time went; after 1, 2, 4 and 8 s, then every ten, and when the run ends */
  | {
      readonly kind: "stages";
      readonly seconds: number;
      readonly workers: readonly ({ readonly worker: string } & StageTotals)[];
    }
  /** accuracies in [0, 1]: of kNN, and top-1 of a linear probe; null: there was none */
  | {
      readonly kind: "evaluated";
      readonly step: number;
      readonly accuracy: number;
      readonly linear: number | null;
    }
  /** a picture of this step has taken its place in the run directory */
  | ({ readonly kind: "pictured" } & PictureNote)
  | ({ readonly kind: "worker-joined"; readonly workers: number } & JoinedWorker)
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
  /** an aggregator was lost: the run goes on from its last checkpoint, and no worker is here yet */
  | { readonly kind: "went-back"; readonly step: number }
  | { readonly kind: "run-ended"; readonly outcome: "finished" | "stopped" | "failed"; readonly step: number | null };

/** What can be said of a picture. */
export interface PictureNote {
  readonly step: number;
  /** also the name of its file in the run directory's `pictures/`, without `.png` */
  readonly picture: PictureKind;
  /** in pixels */
  readonly width: number;
  readonly height: number;
  /** what is to be seen in general, for those who look at it */
  readonly legend: string;
  /** what is to be seen in this one, for those who do not */
  readonly alt: string;
}

/** pairs: augmented views of training samples; neighbours: what the encoder takes for similar to test samples */
export const PICTURE_KINDS = ["pairs", "neighbours"] as const;
export type PictureKind = (typeof PICTURE_KINDS)[number];

/** A worker that takes part from now on. */
export interface JoinedWorker {
  /** its name in the run */
  readonly worker: string;
  /** how many devices it has, and what they are */
  readonly devices: number;
  readonly device: string;
  /** machine and process, as the worker says */
  readonly host: string;
  readonly pid: number;
}

/** Of a step: means over its ranks, and how it went; times in ms. */
export interface StepNumbers extends RankMetrics {
  readonly totalSteps: number;
  readonly epoch: number;
  readonly learningRate: number;
  readonly stepMs: number;
  readonly imagesPerSecond: number;
  readonly workers: number;
}

export type TimedEvent = RunEvent & { /** ISO 8601 */ readonly time: string };

/** The events of a file, in the order in which they were written; lines that were torn are left out. */
export async function* readEvents(path: string): AsyncGenerator<TimedEvent> {
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const event = parsed(line);
    if (event !== null) yield event;
  }
}

/** What an entry of JSON has, and of which types; what is not finite is null there. */
type Fields = Readonly<Record<string, readonly string[]>>;
const TEXT = ["string"];
const NUMBER = ["number"];
const FLOAT = ["number", "null"];

const FIELDS: Readonly<Record<RunEvent["kind"], Fields>> = {
  "run-started": { again: TEXT, control: TEXT, step: NUMBER },
  initialised: { sha256: TEXT, matched: NUMBER },
  step: { step: NUMBER, totalSteps: FLOAT, loss: FLOAT, stepMs: FLOAT, imagesPerSecond: FLOAT },
  stages: { seconds: NUMBER },
  evaluated: { step: NUMBER, accuracy: NUMBER },
  pictured: { step: NUMBER, picture: TEXT, width: NUMBER, height: NUMBER, legend: TEXT, alt: TEXT },
  "worker-joined": { worker: TEXT, devices: NUMBER, device: TEXT, host: TEXT, pid: NUMBER, workers: NUMBER },
  "worker-left": { worker: TEXT, reason: TEXT },
  "step-skipped": { step: NUMBER },
  straggler: { worker: TEXT, slow: ["boolean"] },
  "not-reproducible": { worker: TEXT },
  explained: { reason: TEXT },
  "events-lost": { events: NUMBER },
  dropped: { peer: TEXT, reason: TEXT },
  checkpointed: { step: NUMBER, directory: TEXT },
  "went-back": { step: NUMBER },
  "run-ended": { outcome: TEXT },
};
/** Of each worker in `stages`. */
const WORKER_FIELDS: Fields = {
  worker: TEXT,
  ...Object.fromEntries([...STAGES, "ranks", "sentBytes", "receivedBytes"].map((name) => [name, NUMBER])),
};

function has(entry: unknown, fields: Fields): boolean {
  if (typeof entry !== "object" || entry === null) return false;
  const values = entry as Record<string, unknown>;
  return Object.entries(fields).every(([name, types]) =>
    types.includes(values[name] === null ? "null" : typeof values[name]),
  );
}

/** @returns null where the line is none of ours */
function parsed(line: string): TimedEvent | null {
  let event: Record<string, unknown> | null;
  try {
    event = JSON.parse(line) as Record<string, unknown> | null;
  } catch {
    return null;
  }
  if (typeof event?.["time"] !== "string" || Number.isNaN(Date.parse(event["time"]))) return null;
  const { kind, workers } = event;
  if (typeof kind !== "string" || !has(event, (FIELDS as Record<string, Fields | undefined>)[kind] ?? {})) return null;
  const isWhole =
    kind !== "stages" || (Array.isArray(workers) && workers.every((worker) => has(worker, WORKER_FIELDS)));
  return isWhole ? (event as unknown as TimedEvent) : null;
}

const NEWLINE = 0x0a;

/** Follows a file of events as it grows. */
export class EventTail {
  /** bytes of whole lines so far */
  private read = 0;

  constructor(private readonly path: string) {}

  /** Those that have come since; a last line that is not whole yet comes with the next. None where there is no file yet. */
  async *more(): AsyncGenerator<TimedEvent> {
    let rest = Buffer.alloc(0);
    try {
      for await (const chunk of createReadStream(this.path, { start: this.read })) {
        const bytes = Buffer.concat([rest, chunk as Buffer]);
        const end = bytes.lastIndexOf(NEWLINE) + 1;
        rest = bytes.subarray(end);
        this.read += end;
        for (const line of bytes.toString("utf8", 0, end).split("\n")) {
          const event = parsed(line);
          if (event !== null) yield event;
        }
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}

/** Opened at the first event; an event is in the file when `append` returns, unless the disk refuses: that costs events, not the run. */
export class EventFile {
  private descriptor: number | null = null;
  private isTorn = false;
  /** events that could not be written since one was */
  private lost = 0;

  constructor(
    private readonly path: string,
    private readonly now: () => Date = () => new Date(),
    /** hears of each, whether the disk takes it or not */
    private readonly onEvent: (event: TimedEvent) => void = () => undefined,
    /** hears when the disk begins to refuse */
    private readonly warn: (message: string) => void = () => undefined,
  ) {}

  append(event: RunEvent): void {
    const time = this.now().toISOString();
    this.onEvent({ time, ...event });
    try {
      if (this.lost > 0) {
        this.write(JSON.stringify({ time, kind: "events-lost", events: this.lost } satisfies TimedEvent));
        this.lost = 0;
      }
      this.write(JSON.stringify({ time, ...event }));
    } catch (error) {
      // Errors of the system carry its number: a full disk, a read-only one.
      if (!(error instanceof Error && "errno" in error)) throw error;
      if (this.lost++ === 0) this.warn(`${this.path} cannot be written, and events are lost: ${error.message}`);
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
