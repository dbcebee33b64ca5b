/** CIFAR-10's official binary batches (Krizhevsky 2009) as a data set. */
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { UserError } from "../protocol/errors.js";
import type { ResidentSource } from "./cache.js";
import type { Dataset, Split } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import { resizeSquare } from "./decode.js";
import { manifestHash } from "./manifest.js";

const SIDE = 32;
const PLANE = SIDE * SIDE;
/** One label byte, then the red, green and blue planes. */
const RECORD_BYTES = 1 + 3 * PLANE;
const RECORDS_PER_FILE = 10_000;
const FILE_BYTES = RECORDS_PER_FILE * RECORD_BYTES;
const ARCHIVE_FOLDER = "cifar-10-batches-bin";

const FILES: Readonly<Record<Split, readonly string[]>> = {
  train: [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`),
  test: ["test_batch.bin"],
};
const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/**
 * Reads all six files into memory (184 MB).
 * @param path the folder of the batches, or the one that holds `cifar-10-batches-bin`
 * @throws UserError `DATA_MISSING_FOLDER`, `DATA_MISSING_FILE`, `DATA_WRONG_SIZE`, `DATA_BAD_LABEL`
 */
export async function openCifar10(path: string, decodeSize: number): Promise<Dataset> {
  const folder = await findBatches(resolve(path));
  const train = new Cifar10Source("train", await readSplit(folder, "train"), decodeSize);
  const test = new Cifar10Source("test", await readSplit(folder, "test"), decodeSize);
  const entries = [train, test].flatMap((source) =>
    Array.from(source.labels, (label, index) => ({ name: source.nameOf(index), label, bytes: RECORD_BYTES })),
  );
  return { classes: CLASSES, decodeSize, splits: { train, test }, manifestHash: manifestHash("cifar10", entries) };
}

async function findBatches(path: string): Promise<string> {
  const isFolder = async (candidate: string) => (await stat(candidate).catch(() => null))?.isDirectory() ?? false;
  if (!(await isFolder(path))) {
    throw new UserError(
      "DATA_MISSING_FOLDER",
      `data folder "${path}" does not exist: give the folder of CIFAR-10's binary batches`,
    );
  }
  const inner = join(path, ARCHIVE_FOLDER);
  return (await isFolder(inner)) ? inner : path;
}

/** Each file of the split, checked for size and labels; one after another, so that of several bad files the first is named. */
async function readSplit(folder: string, split: Split): Promise<Uint8Array[]> {
  const batches: Uint8Array[] = [];
  for (const file of FILES[split]) batches.push(await readBatchFile(join(folder, file)));
  return batches;
}

async function readBatchFile(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    const remedy = 'unpack CIFAR-10\'s "binary version" archive there';
    throw new UserError(
      "DATA_MISSING_FILE",
      `CIFAR-10 file "${path}" cannot be read (${fileErrorCode(cause)}): ${remedy}`,
      {
        cause,
      },
    );
  });
  if (bytes.length !== FILE_BYTES) {
    throw new UserError(
      "DATA_WRONG_SIZE",
      `CIFAR-10 file "${path}" has ${bytes.length} bytes, not ${FILE_BYTES}: unpack the archive again`,
    );
  }
  for (let record = 0; record < RECORDS_PER_FILE; record++) {
    const label = bytes[record * RECORD_BYTES];
    if (label >= CLASSES.length) {
      throw new UserError(
        "DATA_BAD_LABEL",
        `CIFAR-10 file "${path}" has label ${label} in record ${record}: unpack the archive again`,
      );
    }
  }
  return bytes;
}

class Cifar10Source implements ResidentSource {
  readonly resident = true;
  readonly length: number;
  readonly labels: Int32Array;

  constructor(
    private readonly split: Split,
    private readonly files: readonly Uint8Array[],
    private readonly decodeSize: number,
  ) {
    this.length = files.length * RECORDS_PER_FILE;
    this.labels = Int32Array.from({ length: this.length }, (_, index) => this.recordOf(index)[0]);
  }

  nameOf(index: number): string {
    return `cifar10 ${this.split} ${index}`;
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const record = this.recordOf(index);
    if (this.decodeSize === SIDE) {
      interleavePlanes(record, target, offset);
      return;
    }
    const pixels = new Uint8Array(3 * PLANE);
    interleavePlanes(record, pixels, 0);
    target.set(await resizeSquare(pixels, SIDE, this.decodeSize), offset);
  }

  private recordOf(index: number): Uint8Array {
    const start = (index % RECORDS_PER_FILE) * RECORD_BYTES;
    return this.files[Math.floor(index / RECORDS_PER_FILE)].subarray(start, start + RECORD_BYTES);
  }
}

/** `[3, 32, 32]` behind the label byte becomes `[32, 32, 3]`. */
function interleavePlanes(record: Uint8Array, target: Uint8Array, offset: number): void {
  for (let pixel = 0; pixel < PLANE; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      target[offset + 3 * pixel + channel] = record[1 + channel * PLANE + pixel];
    }
  }
}
