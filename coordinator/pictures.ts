/**
 * Pictures of a run for people to look at: augmented views of a few training samples, and what the encoder takes for similar to a few test
 * samples. They are made at each evaluation; of a run without one, views once it has begun.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { ViewConfig } from "../src/data/contact-sheet.js";
import type { ImageDataset } from "../src/data/dataset.js";
import type { Grid } from "../src/data/picture-grid.js";
import type { Neighbourhood } from "../src/evaluation/knn.js";
import type { PictureNote } from "../src/telemetry/index.js";
import type { Scores } from "./evaluation-thread.js";
import { neighboursOrder, neighboursWords, pairsOrder, pairsWords, type PictureOrder } from "./picture-order.js";
import type { PictureAnswer } from "./picture-process.js";
import type { RunObserver, StepReport } from "./server.js";

export interface PictureOptions {
  readonly dataset: ImageDataset;
  readonly config: ViewConfig;
  readonly stepsPerEpoch: number;
  readonly isEvaluated: boolean;
  /** where the latest of each kind is kept */
  readonly directory: string;
  readonly observer: Pick<RunObserver, "pictured" | "notPictured">;
}

/** Whose views are shown: the last ones. */
const EPOCHS_SHOWN = 2;
/** Drawing takes about a second of one core, which must be a small part of the time; where workers keep all busy, ten times as long. */
const REST_MS = 10_000;
const MOST_MS = 2 * 60_000;
/** How long the end of a run may wait for its last pictures, in ms. */
const FAREWELL_MS = 10_000;

/** What is to be drawn. */
interface Wanted {
  readonly step: number;
  /** null: none were looked for */
  readonly nearest: readonly Neighbourhood[] | null;
}

export class Pictures implements Partial<RunObserver> {
  /** nobody rests any more */
  private readonly closing = new AbortController();
  /** nor works */
  private readonly ending = new AbortController();
  /** at most one is made at a time; of those that were wanted meanwhile the latest is next */
  private next: Wanted | null = null;
  private working: Promise<void> | null = null;
  private hasBegun = false;
  private hasFailed = false;

  constructor(private readonly options: PictureOptions) {}

  evaluated(step: number, { nearest }: Scores): void {
    this.want({ step, nearest });
  }

  stepDone({ step }: StepReport): void {
    if (this.options.isEvaluated || this.hasBegun) return;
    this.hasBegun = true;
    this.want({ step, nearest: null });
  }

  /** @param hasFinished whether the run has, so that the last evaluation's are waited for */
  async close(hasFinished: boolean): Promise<void> {
    this.closing.abort();
    const waits = hasFinished && this.options.isEvaluated;
    const timer = setTimeout(() => this.ending.abort(), waits ? FAREWELL_MS : 0);
    await this.working;
    clearTimeout(timer);
  }

  private want(wanted: Wanted): void {
    this.next = wanted;
    this.working ??= this.work();
  }

  private async work(): Promise<void> {
    for (let wanted = this.next; wanted !== null && !this.ending.signal.aborted; wanted = this.next) {
      this.next = null;
      try {
        await this.make(wanted);
      } catch (error) {
        if (!this.hasFailed && !this.ending.signal.aborted) this.options.observer.notPictured(String(error));
        this.hasFailed = true;
      }
      await sleep(REST_MS, undefined, { signal: this.closing.signal, ref: false }).catch(() => undefined);
    }
    this.working = null;
  }

  private async make({ step, nearest }: Wanted): Promise<void> {
    const { dataset, config, stepsPerEpoch } = this.options;
    const first = Math.max(0, Math.ceil(step / stepsPerEpoch) - EPOCHS_SHOWN);
    const epochs = Array.from({ length: EPOCHS_SHOWN }, (_, place) => first + place);
    const pairs = await pairsOrder(dataset, epochs);
    const neighbours = nearest === null ? null : await neighboursOrder(dataset, nearest);
    const drawn = await drawnApart({ config, pairs, neighbours }, this.ending.signal);
    await this.keep(drawn.pairs, { step, picture: "pairs", ...pairsWords(dataset, pairs) });
    if (nearest === null || neighbours === null || drawn.neighbours === null) return;
    const words = neighboursWords(dataset, neighbours, nearest);
    await this.keep(drawn.neighbours, { step, picture: "neighbours", ...words });
  }

  /** The latest takes the place of the one before, whole. */
  private async keep({ png, width, height }: Grid, note: Omit<PictureNote, "width" | "height">): Promise<void> {
    const { directory, observer } = this.options;
    const path = join(directory, `${note.picture}.png`);
    await mkdir(directory, { recursive: true });
    await writeFile(`${path}.part`, png);
    await rename(`${path}.part`, path);
    observer.pictured({ ...note, width, height }, png);
  }
}

/** @throws Error where the process ends without an answer, takes too long, or `signal` ends it */
async function drawnApart(order: PictureOrder, signal: AbortSignal): Promise<PictureAnswer> {
  const child = fork(new URL("./picture-process.js", import.meta.url), {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    signal: AbortSignal.any([signal, AbortSignal.timeout(MOST_MS)]),
    killSignal: "SIGKILL",
  });
  const complaint = text(child.stderr as Readable).catch(() => "");
  const died = once(child, "close").then(async () => {
    const lines = (await complaint).split("\n");
    throw new Error(lines.find((line) => /error/i.test(line)) ?? "the process that draws has ended");
  });
  // After its answer it ends, too.
  died.catch(() => undefined);
  child.send(order, () => undefined);
  const [answer] = (await Promise.race([once(child, "message"), died])) as [PictureAnswer];
  return answer;
}
