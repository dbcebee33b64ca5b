/** What a data set holds: counts, labels, and the sizes of some of its pictures or of its texts. */
import {
  CorruptSampleError,
  isFileSource,
  type Dataset,
  type ImageDataset,
  type ImageSource,
  type Split,
  type TextSource,
} from "./dataset.js";
import { pictureFormat, type PictureFormat } from "./decode.js";
import { mapBounded } from "./map-bounded.js";

/** Pictures being looked at at once. */
const LOOKS_AT_ONCE = 8;

/** Of one measure over the pictures looked at, in pixels, or over the texts, in characters. */
export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export interface ImageSplitReport {
  readonly images: number;
  /** samples of each class, by its name in label order; null without labels. Samples beyond their sum have none. */
  readonly labels: Readonly<Record<string, number>> | null;
  /** pictures decoded for this report, evenly spaced over the split */
  readonly looked: number;
  /** names of those among them that cannot be decoded */
  readonly corrupt: readonly string[];
  /** null where none was looked at that decodes */
  readonly width: Spread | null;
  readonly height: Spread | null;
  /** pictures looked at by format: `jpeg`, `png`, `webp`, or `pixels` where they are no files */
  readonly formats: Readonly<Record<string, number>>;
}

export interface TextSplitReport {
  readonly texts: number;
  /** lines without text, which are left out */
  readonly emptyLines: number;
  /** as of images */
  readonly labels: Readonly<Record<string, number>> | null;
  /** null where there are no texts */
  readonly characters: Spread | null;
}

export type DatasetReport = { readonly manifestHash: string; readonly classes: readonly string[] } & (
  ({ readonly modality: "image" } & Sides<ImageSplitReport>) | ({ readonly modality: "text" } & Sides<TextSplitReport>)
);

interface Sides<Report> {
  readonly splits: Readonly<Record<Split, Report>>;
  /** of pairs: what their key views are made from; left out of other data */
  readonly keys?: Readonly<Record<Split, Report>>;
}

/**
 * @param nativeSide side of pictures that are no files, in pixels
 * @param most pictures of each split that are decoded
 * @throws UserError `DATA_UNREADABLE`
 */
export async function inspectDataset(
  dataset: Dataset,
  nativeSide: number | null,
  most: number,
): Promise<DatasetReport> {
  const { manifestHash, classes } = dataset;
  if (dataset.modality === "text") {
    const both = ({ train, test }: Readonly<Record<Split, TextSource>>) => ({
      train: inspectTexts(train, classes),
      test: inspectTexts(test, classes),
    });
    const { modality, splits, keys } = dataset;
    return { manifestHash, classes, modality, splits: both(splits), ...(keys !== undefined && { keys: both(keys) }) };
  }
  const { modality, splits, keys, decodeSize } = dataset;
  const report = (source: ImageSource) => inspectImages(source, dataset, nativeSide ?? decodeSize, most);
  const both = async ({ train, test }: Readonly<Record<Split, ImageSource>>) => ({
    train: await report(train),
    test: await report(test),
  });
  return {
    ...{ manifestHash, classes, modality, splits: await both(splits) },
    ...(keys !== undefined && { keys: await both(keys) }),
  };
}

function inspectTexts(source: TextSource, classes: readonly string[]): TextSplitReport {
  const lengths = Array.from({ length: source.length }, (_, index) => Array.from(source.text(index)).length);
  return {
    texts: source.length,
    emptyLines: source.emptyLines,
    labels: labelCounts(source.labels, classes),
    characters: spread(lengths),
  };
}

async function inspectImages(
  source: ImageSource,
  { classes, decodeSize }: ImageDataset,
  nativeSide: number,
  most: number,
): Promise<ImageSplitReport> {
  const corrupt: string[] = [];
  const indices = evenlySpaced(source.length, most);
  const looked = await mapBounded(indices, LOOKS_AT_ONCE, async (index): Promise<PictureFormat | null> => {
    try {
      await source.read(index, new Uint8Array(decodeSize * decodeSize * 3), 0);
    } catch (error) {
      if (!(error instanceof CorruptSampleError)) throw error;
      corrupt.push(error.sampleName);
      return null;
    }
    if (!isFileSource(source)) return { format: "pixels", width: nativeSide, height: nativeSide };
    return pictureFormat(await source.encoded(index));
  });
  const pictures = looked.filter((picture) => picture !== null);
  return {
    images: source.length,
    labels: labelCounts(source.labels, classes),
    looked: indices.length,
    corrupt: corrupt.sort(),
    width: spread(pictures.map(({ width }) => width)),
    height: spread(pictures.map(({ height }) => height)),
    formats: countBy(pictures.map(({ format }) => format)),
  };
}

/** At most `most` of the indices below `length`, the same distance apart, from 0 on. */
function evenlySpaced(length: number, most: number): number[] {
  const count = Math.min(length, most);
  return Array.from({ length: count }, (_, place) => Math.floor((place * length) / count));
}

function labelCounts(labels: Int32Array, classes: readonly string[]): Record<string, number> | null {
  if (labels.length === 0 || labels[0] < 0) return null;
  const counts = new Int32Array(classes.length);
  for (const label of labels) if (label >= 0) counts[label]++;
  return Object.fromEntries(classes.map((name, label) => [name, counts[label]]));
}

function spread(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { min: sorted[0], median, max: sorted[sorted.length - 1] };
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([, a], [, b]) => b - a));
}
