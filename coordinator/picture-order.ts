/** What a run's pictures are to show, and what can be said of them. The samples are the same each time. */
import { setImmediate } from "node:timers/promises";
import { readBatch } from "../src/data/batch.js";
import type { ViewConfig } from "../src/data/contact-sheet.js";
import type { ImageDataset, ImageSource } from "../src/data/dataset.js";
import { PairedImages } from "../src/data/paired-images.js";
import { spread } from "../src/data/spread.js";
import type { Neighbourhood } from "../src/evaluation/knn.js";
import type { PictureNote } from "../src/telemetry/index.js";

export interface PictureOrder {
  readonly config: ViewConfig;
  readonly pairs: PairsOrder;
  /** null: none were looked for */
  readonly neighbours: NeighboursOrder | null;
}

export interface PairsOrder {
  /** `[N]`, of the training split */
  readonly samples: Int32Array;
  /** uint8 `[N, S', S', 3]`; of paired images `[N, 2, S', S', 3]` */
  readonly pixels: Uint8Array;
  readonly arePaired: boolean;
  /** whose views are shown */
  readonly epochs: readonly number[];
}

export interface NeighboursOrder {
  /** uint8 `[N, 1 + K, S', S', 3]`: a test sample, then its neighbours */
  readonly pixels: Uint8Array;
  /** `[N][K]`: whether a neighbour is of the test sample's class */
  readonly areSame: readonly (readonly boolean[])[];
}

/** What is to be seen, in words. */
export type Words = Pick<PictureNote, "legend" | "alt">;

const SAMPLES_SHOWN = 6;

/** A few training samples. @throws whatever reading a sample throws */
export async function pairsOrder(dataset: ImageDataset, epochs: readonly number[]): Promise<PairsOrder> {
  const { decodeSize, splits, keys } = dataset;
  const bytes = 3 * decodeSize ** 2;
  const samples = spread(splits.train.length, SAMPLES_SHOWN);
  const source = keys === undefined ? splits.train : new PairedImages(splits.train, keys.train, bytes);
  const reads = samples.map((sample) => ({ source, sample }));
  const pixels = await oneByOne(reads, keys === undefined ? bytes : 2 * bytes);
  return { samples: Int32Array.from(samples), pixels, arePaired: keys !== undefined, epochs };
}

export function pairsWords({ splits }: ImageDataset, { samples, epochs, arePaired }: PairsOrder): Words {
  const names = [...samples].map((sample) => splits.train.nameOf(sample)).join(", ");
  const first = arePaired ? "both images of a pair" : "a training image";
  return {
    legend: `Per row ${first}, then its query and key views of epochs ${epochs.join(" and ")}`,
    alt: `Augmented views of ${names}`,
  };
}

/** A few test samples, and what is nearest to them. @throws whatever reading a sample throws */
export async function neighboursOrder(
  dataset: ImageDataset,
  nearest: readonly Neighbourhood[],
): Promise<NeighboursOrder> {
  const { train, test } = dataset.splits;
  const reads = nearest.flatMap(({ sample, neighbours }) => [
    { source: test, sample },
    ...neighbours.map((neighbour) => ({ source: train, sample: neighbour.sample })),
  ]);
  const areSame = nearest.map(({ sample, neighbours }) =>
    neighbours.map((neighbour) => train.labels[neighbour.sample] === test.labels[sample]),
  );
  return { pixels: await oneByOne(reads, 3 * dataset.decodeSize ** 2), areSame };
}

export function neighboursWords(
  { classes, splits }: ImageDataset,
  { areSame }: NeighboursOrder,
  nearest: readonly Neighbourhood[],
): Words {
  const { train, test } = splits;
  const rows = nearest.map(({ sample, neighbours }) => {
    const seen = neighbours.map(
      (neighbour) => `${classes[train.labels[neighbour.sample]]} ${neighbour.similarity.toFixed(2)}`,
    );
    return `${classes[test.labels[sample]]}: ${seen.join(", ")}`;
  });
  const all = areSame.flat();
  const same = all.filter(Boolean).length;
  return {
    legend: `Per row a test image, then the training images nearest to it: ${same} of ${all.length} are of its class (blue frame), the others are not (orange)`,
    alt: `Classes of test images, and of their neighbours with cosine similarity: ${rows.join("; ")}`,
  };
}

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
