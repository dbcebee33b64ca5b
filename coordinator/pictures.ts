/**
 * Pictures of a run for people to look at: augmented views of a few training samples, and what the encoder takes for similar to a few test
 * samples. The samples are the same each time. They are made at each evaluation; of a run without one, views once it has begun.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { readBatch } from "../src/data/batch.js";
import type { ImageDataset, ImageSource } from "../src/data/dataset.js";
import { PairedImages } from "../src/data/paired-images.js";
import { spread } from "../src/data/spread.js";
import type { ViewConfig } from "../src/data/contact-sheet.js";
import type { Grid } from "../src/data/picture-grid.js";
import type { Neighbourhood } from "../src/evaluation/knn.js";
import type { PictureNote } from "../src/telemetry/index.js";
import type { Scores } from "./evaluation-thread.js";
import type { PictureAnswer, PictureOrder } from "./picture-process.js";
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

/** Training samples that are shown, and epochs whose views are. */
const SAMPLES_SHOWN = 6;
const EPOCHS_SHOWN = 2;
/** Drawing takes about a second of one core, which must be a small part of the time; where the workers keep all busy, ten times as long. */
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
  /** at most one is made at a time, and the latest of those that were wanted meanwhile is next */
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

  /** The last evaluation's are waited for. */
  async close(): Promise<void> {
    this.closing.abort();
    const timer = setTimeout(() => this.ending.abort(), this.options.isEvaluated ? FAREWELL_MS : 0);
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
    const { stepsPerEpoch } = this.options;
    const first = Math.max(0, Math.ceil(step / stepsPerEpoch) - EPOCHS_SHOWN);
    const epochs = Array.from({ length: EPOCHS_SHOWN }, (_, place) => first + place);
    const order = {
      config: this.viewConfig(),
      pairs: await this.pairs(epochs),
      neighbours: nearest === null ? null : await this.neighbours(nearest),
    };
    const { pairs, neighbours } = await drawnApart(order, this.ending.signal);
    await this.keep(pairs, { step, picture: "pairs", ...this.ofPairs(order.pairs) });
    if (neighbours !== null && nearest !== null)
      await this.keep(neighbours, { step, picture: "neighbours", ...this.ofNeighbours(nearest) });
  }

  /** The part that a process needs which may not see all of it. */
  private viewConfig(): ViewConfig {
    const { seed, data, augmentation } = this.options.config;
    return { seed, data, augmentation };
  }

  private async pairs(epochs: readonly number[]): Promise<PictureOrder["pairs"]> {
    const { decodeSize, splits, keys } = this.options.dataset;
    const samples = spread(splits.train.length, SAMPLES_SHOWN);
    const bytes = 3 * decodeSize ** 2;
    const source = keys === undefined ? splits.train : new PairedImages(splits.train, keys.train, bytes);
    const reads = samples.map((sample) => ({ source, sample }));
    const pixels = await oneByOne(reads, keys === undefined ? bytes : 2 * bytes);
    return { samples: Int32Array.from(samples), pixels, arePaired: keys !== undefined, epochs };
  }

  private async neighbours(nearest: readonly Neighbourhood[]): Promise<PictureOrder["neighbours"]> {
    const { decodeSize, splits } = this.options.dataset;
    const reads = nearest.flatMap(({ sample, neighbours }) => [
      { source: splits.test, sample },
      ...neighbours.map((neighbour) => ({ source: splits.train, sample: neighbour.sample })),
    ]);
    return { pixels: await oneByOne(reads, 3 * decodeSize ** 2), areSame: this.areSame(nearest) };
  }

  private areSame(nearest: readonly Neighbourhood[]): boolean[][] {
    const { train, test } = this.options.dataset.splits;
    return nearest.map(({ sample, neighbours }) =>
      neighbours.map((neighbour) => train.labels[neighbour.sample] === test.labels[sample]),
    );
  }

  private ofPairs({ samples, epochs, arePaired }: PictureOrder["pairs"]): Words {
    const [first, last] = [String(epochs[0]), String(epochs.at(-1))];
    const start = arePaired ? "Per row both images of a pair" : "Per row an image";
    const legend = `${start}, then its query and key views of epochs ${first} and ${last}, as the encoders see them`;
    const { train } = this.options.dataset.splits;
    return { legend, alt: `Augmented views of ${[...samples].map((sample) => train.nameOf(sample)).join(", ")}` };
  }

  private ofNeighbours(nearest: readonly Neighbourhood[]): Words {
    const { classes, splits } = this.options.dataset;
    const { train, test } = splits;
    const rows = nearest.map(({ sample, neighbours }) => {
      const seen = neighbours.map(
        (neighbour) => `${classes[train.labels[neighbour.sample]]} ${neighbour.similarity.toFixed(2)}`,
      );
      return `${classes[test.labels[sample]]}: ${seen.join(", ")}`;
    });
    const all = this.areSame(nearest).flat();
    const same = all.filter(Boolean).length;
    const legend =
      `Per row a test image, then the training images nearest to it, in a blue frame where they are of its class ` +
      `(${String(same)} of ${String(all.length)}), in an orange one where they are not`;
    return {
      legend,
      alt: `Classes of test images, and of their neighbours with cosine similarity: ${rows.join("; ")}`,
    };
  }

  private async keep(
    { png, width, height }: Grid,
    words: Words & Pick<PictureNote, "step" | "picture">,
  ): Promise<void> {
    const { directory, observer } = this.options;
    const path = join(directory, `${words.picture}.png`);
    await mkdir(directory, { recursive: true });
    await writeFile(`${path}.part`, png);
    await rename(`${path}.part`, path);
    observer.pictured({ ...words, width, height }, png);
  }
}

type Words = Pick<PictureNote, "legend" | "alt">;

/** With a turn of the loop after each: sources that draw their samples, or hold them, take no other. A corrupt one's next stands in. */
async function oneByOne(
  reads: readonly { readonly source: ImageSource; readonly sample: number }[],
  bytes: number,
): Promise<Uint8Array> {
  const pixels = new Uint8Array(reads.length * bytes);
  for (const [place, { source, sample }] of reads.entries()) {
    await readBatch(source, [sample], pixels.subarray(place * bytes, (place + 1) * bytes), () => undefined);
    await setImmediate();
  }
  return pixels;
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
