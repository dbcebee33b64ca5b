/** Pairs that the user gives as a data set: the query view is made from one image or text, the key view from another. */
import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { UserError } from "../protocol/errors.js";
import { classesOf, numberedLabels, refuseMixedLabels } from "./class-labels.js";
import type { Dataset, ImageSource, Split, TextSource } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import { IMAGE_NAME, type ListedFile } from "./folder-listing.js";
import { ImageFiles } from "./image-files.js";
import { hashOfLines } from "./manifest.js";
import { mapBounded } from "./map-bounded.js";
import { type PairsFile, readPairsFile } from "./pairs-file.js";
import type { PairsSpec } from "./spec.js";

/** Files measured at once. */
const MEASURED_AT_ONCE = 64;

const SIDES = ["query", "key"] as const;
type Side = (typeof SIDES)[number];

/** A file of pairs whose labels are numbers. */
interface Pairs {
  readonly split: Split;
  /** null: there is no such split */
  readonly file: PairsFile | null;
  readonly labels: Int32Array;
}

/**
 * Images where all values end in the name of an image file, relative to the listing file's folder; else texts. At rest a pair is
 * its query. Texts and paths stay in memory.
 * @throws UserError as `readPairsFile`; `DATA_MIXED_PAIRS`, `DATA_MIXED_LABELS`, `DATA_UNKNOWN_CLASS`, `DATA_UNREADABLE`
 */
export async function openPairs(spec: PairsSpec, decodeSize: number): Promise<Dataset> {
  const train = await readPairsFile(spec.train, spec);
  const test = spec.test === null ? null : await readPairsFile(spec.test, spec);
  const files = [train, ...(test === null ? [] : [test])];
  const areImages = holdImages(files);
  refuseMixedLabels(files, "pairs");
  const classes = classesOf(train.labels);
  const numbered = (split: Split, file: PairsFile | null): Pairs => ({
    split,
    file,
    labels: file === null ? new Int32Array(0) : numberedLabels(file, classes, "pair"),
  });
  const both = [numbered("train", train), numbered("test", test)] as const;
  return areImages ? images(both, classes, decodeSize) : texts(both, classes);
}

/** @throws UserError `DATA_MIXED_PAIRS` */
function holdImages(files: readonly PairsFile[]): boolean {
  const values = files.flatMap((file) =>
    SIDES.map((side) => {
      const column = columnOf(file, side);
      const where = (index: number) => (index < 0 ? null : `the ${side} of ${file.lineOf(index)}`);
      return {
        image: where(column.findIndex((value) => IMAGE_NAME.test(value))),
        text: where(column.findIndex((value) => !IMAGE_NAME.test(value))),
      };
    }),
  );
  const image = values.find((each) => each.image !== null)?.image;
  const text = values.find((each) => each.text !== null)?.text;
  if (image == null || text == null) return image != null;
  throw new UserError(
    "DATA_MIXED_PAIRS",
    `${image} is an image and ${text} is none: give images alone (.jpg, .jpeg, .png, .webp), or texts alone`,
  );
}

function columnOf(file: PairsFile, side: Side): readonly string[] {
  return side === "query" ? file.queries : file.keys;
}

type Both = readonly [Pairs, Pairs];

async function images([train, test]: Both, classes: readonly string[], decodeSize: number): Promise<Dataset> {
  const [trained, tested] = [await listed(train), await listed(test)];
  const sources = (side: Side): Record<Split, ImageSource> => {
    const of = ({ file }: Pairs, files: Record<Side, ListedFile[]>) =>
      new ImageFiles(dirname(resolve(file?.path ?? "")), files[side], decodeSize);
    return { train: of(train, trained), test: of(test, tested) };
  };
  const entry = ({ name, bytes }: ListedFile) => [name, bytes];
  const entries = [
    ...trained.query.map((query, index) => ["train", query.label, entry(query), entry(trained.key[index])]),
    ...tested.query.map((query, index) => ["test", query.label, entry(query), entry(tested.key[index])]),
  ];
  return {
    ...{ modality: "image", classes, decodeSize, splits: sources("query"), keys: sources("key") },
    manifestHash: manifest("images", classes, entries),
  };
}

/** @throws UserError `DATA_UNREADABLE` for the first image in the file's order that is not there */
async function listed({ file, labels }: Pairs): Promise<Record<Side, ListedFile[]>> {
  if (file === null) return { query: [], key: [] };
  const folder = dirname(resolve(file.path));
  const names = [...new Set([...file.queries, ...file.keys])];
  const sizes = new Map<string, number | Error>();
  await mapBounded(names, MEASURED_AT_ONCE, async (name) => {
    const found = await stat(resolve(folder, name)).catch((error: unknown) => asError(error));
    sizes.set(name, found instanceof Error ? found : found.size);
  });
  const listing: Record<Side, ListedFile[]> = { query: [], key: [] };
  for (let index = 0; index < labels.length; index++) {
    for (const side of SIDES) {
      const name = columnOf(file, side)[index];
      const bytes = sizes.get(name);
      if (typeof bytes !== "number") {
        throw new UserError(
          "DATA_UNREADABLE",
          `${side} image "${name}" of ${file.lineOf(index)} cannot be read (${fileErrorCode(bytes)}): ` +
            "name it relative to that file's folder",
          { cause: bytes },
        );
      }
      listing[side].push({ name, label: labels[index], bytes });
    }
  }
  return listing;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function texts([train, test]: Both, classes: readonly string[]): Dataset {
  const sources = (side: Side): Record<Split, TextSource> => ({
    train: new PairTexts(train, side),
    test: new PairTexts(test, side),
  });
  const entries = [train, test].flatMap(({ split, file, labels }) =>
    Array.from(labels, (label, index) => [split, label, file?.queries[index], file?.keys[index]]),
  );
  return {
    ...{ modality: "text", classes, splits: sources("query"), keys: sources("key") },
    manifestHash: manifest("texts", classes, entries),
  };
}

class PairTexts implements TextSource {
  readonly length: number;
  readonly labels: Int32Array;
  readonly emptyLines = 0;
  private readonly file: PairsFile | null;

  constructor(
    { file, labels }: Pairs,
    private readonly side: Side,
  ) {
    this.length = labels.length;
    this.labels = labels;
    this.file = file;
  }

  /** Without the file's folder, so that workers with other mount points give the same name. */
  nameOf(index: number): string {
    return `${this.side} of ${this.file?.nameOf(index) ?? String(index)}`;
  }

  text(index: number): string {
    const text = this.file === null ? undefined : columnOf(this.file, this.side)[index];
    if (text === undefined) throw new RangeError(`there is no pair ${index}`);
    return text;
  }
}

/** @param entries one a pair; JSON keeps line breaks out of them */
function manifest(what: "images" | "texts", classes: readonly string[], entries: readonly unknown[][]): string {
  return hashOfLines(`pairs of ${what}`, [JSON.stringify(classes), ...entries.map((entry) => JSON.stringify(entry))]);
}
