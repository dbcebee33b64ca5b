/** CIFAR-10 and CIFAR-100 in their official binary versions (Krizhevsky 2009) as data sets. */
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { UserError } from "../protocol/errors.js";
import type { ResidentSource } from "./cache.js";
import type { ImageDataset, Split } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import { resizeSquare } from "./decode.js";
import { manifestHash } from "./manifest.js";

const SIDE = 32;
const PLANE = SIDE * SIDE;

/** Side of every picture, in pixels. */
export const CIFAR_SIDE = SIDE;

/** How one of the two sets lies on disk: files of equal records, each some label bytes, then the red, green and blue planes. */
export interface CifarFormat {
  readonly kind: "cifar10" | "cifar100";
  /** what to call the set in a message */
  readonly title: string;
  /** the folder that its archive unpacks to */
  readonly archiveFolder: string;
  /** label bytes before the planes; the last one is the label that counts */
  readonly labelBytes: number;
  readonly files: Readonly<Record<Split, readonly string[]>>;
  readonly recordsPerFile: Readonly<Record<Split, number>>;
  readonly classes: readonly string[];
}

/**
 * Reads all files into memory (184 MB).
 * @param path the folder of the files, or the one that holds the archive's folder
 * @throws UserError `DATA_MISSING_FOLDER`, `DATA_MISSING_FILE`, `DATA_WRONG_SIZE`, `DATA_BAD_LABEL`
 */
export async function openCifar(format: CifarFormat, path: string, decodeSize: number): Promise<ImageDataset> {
  const folder = await findFiles(format, resolve(path));
  const train = new CifarSource(format, "train", await readSplit(format, folder, "train"), decodeSize);
  const test = new CifarSource(format, "test", await readSplit(format, folder, "test"), decodeSize);
  const bytes = recordBytes(format);
  const entries = [train, test].flatMap((source) =>
    Array.from(source.labels, (label, index) => ({ name: source.nameOf(index), label, bytes })),
  );
  const { kind, classes } = format;
  return { modality: "image", classes, decodeSize, splits: { train, test }, manifestHash: manifestHash(kind, entries) };
}

function recordBytes({ labelBytes }: CifarFormat): number {
  return labelBytes + 3 * PLANE;
}

async function findFiles({ title, archiveFolder }: CifarFormat, path: string): Promise<string> {
  const isFolder = async (candidate: string) => (await stat(candidate).catch(() => null))?.isDirectory() ?? false;
  if (!(await isFolder(path))) {
    throw new UserError(
      "DATA_MISSING_FOLDER",
      `data folder "${path}" does not exist: give the folder of ${title}'s binary files`,
    );
  }
  const inner = join(path, archiveFolder);
  return (await isFolder(inner)) ? inner : path;
}

/** Each file of the split, checked for size and labels; one after another, so that of several bad files the first is named. */
async function readSplit(format: CifarFormat, folder: string, split: Split): Promise<Uint8Array[]> {
  const files: Uint8Array[] = [];
  for (const file of format.files[split]) {
    files.push(await readRecords(format, join(folder, file), format.recordsPerFile[split]));
  }
  return files;
}

async function readRecords(format: CifarFormat, path: string, records: number): Promise<Uint8Array> {
  const { title, labelBytes, classes } = format;
  const bytes = await readFile(path).catch((cause: unknown) => {
    const remedy = `unpack ${title}'s "binary version" archive there`;
    throw new UserError(
      "DATA_MISSING_FILE",
      `${title} file "${path}" cannot be read (${fileErrorCode(cause)}): ${remedy}`,
      { cause },
    );
  });
  const expected = records * recordBytes(format);
  if (bytes.length !== expected) {
    throw new UserError(
      "DATA_WRONG_SIZE",
      `${title} file "${path}" has ${bytes.length} bytes, not ${expected}: unpack the archive again`,
    );
  }
  for (let record = 0; record < records; record++) {
    const label = bytes[record * recordBytes(format) + labelBytes - 1];
    if (label >= classes.length) {
      throw new UserError(
        "DATA_BAD_LABEL",
        `${title} file "${path}" has label ${label} in record ${record}: unpack the archive again`,
      );
    }
  }
  return bytes;
}

class CifarSource implements ResidentSource {
  readonly resident = true;
  readonly length: number;
  readonly labels: Int32Array;

  constructor(
    private readonly format: CifarFormat,
    private readonly split: Split,
    private readonly files: readonly Uint8Array[],
    private readonly decodeSize: number,
  ) {
    this.length = files.length * format.recordsPerFile[split];
    this.labels = Int32Array.from({ length: this.length }, (_, i) => this.recordOf(i)[format.labelBytes - 1]);
  }

  nameOf(index: number): string {
    return `${this.format.kind} ${this.split} ${index}`;
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const planes = this.recordOf(index).subarray(this.format.labelBytes);
    if (this.decodeSize === SIDE) {
      interleavePlanes(planes, target, offset);
      return;
    }
    const pixels = new Uint8Array(3 * PLANE);
    interleavePlanes(planes, pixels, 0);
    target.set(await resizeSquare(pixels, SIDE, this.decodeSize), offset);
  }

  private recordOf(index: number): Uint8Array {
    const records = this.format.recordsPerFile[this.split];
    const start = (index % records) * recordBytes(this.format);
    return this.files[Math.floor(index / records)].subarray(start, start + recordBytes(this.format));
  }
}

/** `[3, 32, 32]` becomes `[32, 32, 3]`. */
function interleavePlanes(planes: Uint8Array, target: Uint8Array, offset: number): void {
  for (let pixel = 0; pixel < PLANE; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      target[offset + 3 * pixel + channel] = planes[channel * PLANE + pixel];
    }
  }
}
