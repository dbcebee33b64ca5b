/** STL-10 (Coates, Lee and Ng 2011) in its official binary version as a data set: read where it lies, since it is 3 GB. */
import { open, readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { UserError } from "../protocol/errors.js";
import type { ImageDataset, ImageSource } from "./dataset.js";
import { resizeSquare } from "./decode.js";
import { fileErrorCode } from "./file-error.js";
import { manifestHash } from "./manifest.js";
import { readRange } from "./positioned-file.js";
import type { Stl10Part, Stl10Spec } from "./spec.js";

const SIDE = 96;
const PLANE = SIDE * SIDE;
const RECORD_BYTES = 3 * PLANE;

/** Side of every picture, in pixels. */
export const STL10_SIDE = SIDE;

/** The folder that its archive unpacks to. */
const ARCHIVE_FOLDER = "stl10_binary";

/** As in the archive's `class_names.txt`. */
const CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

type Part = Stl10Part | "test";

/** One of the archive's files of pictures. */
interface PictureFile {
  readonly part: Part;
  readonly path: string;
  /** `[pictures]`; −1 where they have none */
  readonly labels: Int32Array;
}

/**
 * The training split holds labelled pictures before unlabelled ones. Where it is unlabelled altogether, the test split is too.
 * @throws UserError `DATA_MISSING_FOLDER`, `DATA_MISSING_FILE`, `DATA_WRONG_SIZE`, `DATA_BAD_LABEL`
 */
export async function openStl10({ path, train }: Stl10Spec, decodeSize: number): Promise<ImageDataset> {
  const folder = await findFiles(resolve(path));
  const isLabelled = train.includes("train");
  const files: PictureFile[] = [];
  for (const part of train) files.push(await pictureFile(folder, part, part === "train"));
  const tested = await pictureFile(folder, "test", isLabelled);
  const splits = { train: new Stl10Source(files, decodeSize), test: new Stl10Source([tested], decodeSize) };
  const entries = [splits.train, splits.test].flatMap((source) =>
    Array.from(source.labels, (label, index) => ({ name: source.nameOf(index), label, bytes: RECORD_BYTES })),
  );
  const classes = isLabelled ? CLASSES : [];
  return { modality: "image", classes, decodeSize, splits, manifestHash: manifestHash("stl10", entries) };
}

async function findFiles(path: string): Promise<string> {
  const isFolder = async (candidate: string) => (await stat(candidate).catch(() => null))?.isDirectory() ?? false;
  if (!(await isFolder(path))) {
    throw new UserError(
      "DATA_MISSING_FOLDER",
      `data folder "${path}" does not exist: give the folder of STL-10's binary files`,
    );
  }
  const inner = join(path, ARCHIVE_FOLDER);
  return (await isFolder(inner)) ? inner : path;
}

/** Measured, not read; its labels are. */
async function pictureFile(folder: string, part: Part, isLabelled: boolean): Promise<PictureFile> {
  const path = join(folder, `${part}_X.bin`);
  const bytes = await sizeOf(path);
  const pictures = bytes / RECORD_BYTES;
  if (!Number.isInteger(pictures) || pictures === 0) {
    throw new UserError(
      "DATA_WRONG_SIZE",
      `STL-10 file "${path}" has ${bytes} bytes, which are no pictures of ${RECORD_BYTES} each: unpack the archive again`,
    );
  }
  const labels = isLabelled ? await readLabels(join(folder, `${part}_y.bin`), pictures) : null;
  return { part, path, labels: labels ?? new Int32Array(pictures).fill(-1) };
}

async function sizeOf(path: string): Promise<number> {
  try {
    // Opened, so that one that may not be read is named now.
    const file = await open(path, "r");
    try {
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw missing(path, cause);
  }
}

/** The archive counts from 1. */
async function readLabels(path: string, pictures: number): Promise<Int32Array> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw missing(path, cause);
  });
  if (bytes.length !== pictures) {
    throw new UserError(
      "DATA_WRONG_SIZE",
      `STL-10 file "${path}" has ${bytes.length} labels for ${pictures} pictures: unpack the archive again`,
    );
  }
  return Int32Array.from(bytes, (label, index) => {
    if (label >= 1 && label <= CLASSES.length) return label - 1;
    throw new UserError(
      "DATA_BAD_LABEL",
      `STL-10 file "${path}" has label ${label} at place ${index}: unpack the archive again`,
    );
  });
}

function missing(path: string, cause: unknown): UserError {
  return new UserError(
    "DATA_MISSING_FILE",
    `STL-10 file "${path}" cannot be read (${fileErrorCode(cause)}): unpack STL-10's "binary files" archive there`,
    { cause },
  );
}

/** Files one after another. */
class Stl10Source implements ImageSource {
  readonly length: number;
  readonly labels: Int32Array;

  constructor(
    private readonly files: readonly PictureFile[],
    private readonly decodeSize: number,
  ) {
    this.labels = Int32Array.from(files.flatMap(({ labels }) => [...labels]));
    this.length = this.labels.length;
  }

  nameOf(index: number): string {
    const { file, place } = this.find(index);
    return `stl10 ${file.part} ${place}`;
  }

  /** @throws UserError `DATA_UNREADABLE` where the file cannot be read, or has become shorter since it was measured */
  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const { file, place } = this.find(index);
    const refusal = (reason: string, cause?: unknown) =>
      new UserError("DATA_UNREADABLE", `STL-10 file "${file.path}" cannot be read (${reason}): is it still there?`, {
        cause,
      });
    const planes = await readRange(file.path, place * RECORD_BYTES, RECORD_BYTES).catch((cause: unknown) => {
      throw refusal(fileErrorCode(cause), cause);
    });
    if (planes.length < RECORD_BYTES) throw refusal("it has become shorter");
    if (this.decodeSize === SIDE) {
      interleaveColumns(planes, target, offset);
      return;
    }
    const pixels = new Uint8Array(RECORD_BYTES);
    interleaveColumns(planes, pixels, 0);
    target.set(await resizeSquare(pixels, SIDE, this.decodeSize), offset);
  }

  private find(index: number): { readonly file: PictureFile; readonly place: number } {
    let place = index;
    for (const file of this.files) {
      if (place < file.labels.length) return { file, place };
      place -= file.labels.length;
    }
    throw new RangeError(`there is no picture ${index}`);
  }
}

/** `[3, column, row]` becomes `[row, column, 3]`. */
function interleaveColumns(planes: Uint8Array, target: Uint8Array, offset: number): void {
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const to = offset + 3 * (row * SIDE + column);
      const from = column * SIDE + row;
      for (let channel = 0; channel < 3; channel++) target[to + channel] = planes[channel * PLANE + from];
    }
  }
}
