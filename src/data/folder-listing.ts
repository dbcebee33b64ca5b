/** Listing a folder of images: which files, in which order, with which labels and sizes. Nothing is decoded here. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../protocol/errors.js";
import { sortByBytes } from "./byte-order.js";
import type { Split } from "./dataset.js";
import { fileErrorCode } from "./file-error.js";
import { mapBounded } from "./map-bounded.js";

/** Names of image files. */
export const IMAGE_NAME = /\.(jpe?g|png|webp)$/i;

/** Calls to the file system under way at once. */
const LISTING_CONCURRENCY = 64;

export interface ListedFile {
  /** relative to the data set's root, e.g. `train/cat/0001.jpg` */
  readonly name: string;
  readonly label: number;
  /** size in bytes */
  readonly bytes: number;
}

export interface FolderListing {
  readonly classes: readonly string[];
  readonly splits: Readonly<Record<Split, readonly ListedFile[]>>;
}

/** One split before its files are measured: names of files by class, or without one. */
interface SplitNames {
  readonly classes: readonly string[];
  readonly files: readonly { readonly name: string; readonly className: string | null }[];
}

/**
 * Lists `root/train` and `root/test` where `root/train` exists, else all of `root` as the training split. A split holds either class
 * folders or, unlabelled, just images. Classes, then files, are in byte order of their names. Hidden entries (`.name`) are left out.
 * @throws UserError `DATA_MISSING_FOLDER`, `DATA_EMPTY_CLASS`, `DATA_NO_IMAGES`, `DATA_MIXED_FOLDER`, `DATA_UNKNOWN_CLASS`,
 * `DATA_UNREADABLE`
 */
export async function listFolder(root: string): Promise<FolderListing> {
  const top = await entriesOf(root, "");
  const apart = top.folders.includes("train");
  const train = await namesOfSplit(root, apart ? "train" : "");
  const test = apart && top.folders.includes("test") ? await namesOfSplit(root, "test") : { classes: [], files: [] };
  const stranger = test.classes.find((name) => !train.classes.includes(name));
  if (stranger !== undefined) {
    throw new UserError(
      "DATA_UNKNOWN_CLASS",
      `data folder "${root}" has test/${stranger}, a class without training images: add train/${stranger} or remove it`,
    );
  }
  const labelOf = new Map(train.classes.map((name, label) => [name, label]));
  const measure = (split: SplitNames) =>
    mapBounded(split.files, LISTING_CONCURRENCY, async ({ name, className }) => ({
      name,
      label: className === null ? -1 : (labelOf.get(className) ?? -1),
      bytes: await sizeOf(join(root, name)),
    }));
  return { classes: train.classes, splits: { train: await measure(train), test: await measure(test) } };
}

async function namesOfSplit(root: string, split: string): Promise<SplitNames> {
  const { folders, images } = await entriesOf(root, split);
  const place = join(root, split);
  if (folders.length === 0) {
    if (images.length === 0) {
      throw new UserError(
        "DATA_NO_IMAGES",
        `data folder "${place}" has no images: give one with .jpg, .jpeg, .png or .webp files`,
      );
    }
    return { classes: [], files: images.map((image) => ({ name: nested(split, image), className: null })) };
  }
  if (images.length > 0) {
    throw new UserError(
      "DATA_MIXED_FOLDER",
      `data folder "${place}" has images ("${images[0]}") beside class folders ("${folders[0]}"): move the images into class folders`,
    );
  }
  const ofClass = await mapBounded(folders, LISTING_CONCURRENCY, async (className) => {
    const inClass = await entriesOf(root, nested(split, className));
    if (inClass.images.length === 0) {
      throw new UserError(
        "DATA_EMPTY_CLASS",
        `class folder "${join(place, className)}" has no images: add .jpg, .jpeg, .png or .webp files or remove it`,
      );
    }
    return inClass.images.map((image) => ({ name: nested(split, nested(className, image)), className }));
  });
  return { classes: folders, files: ofClass.flat() };
}

/** Folders and images right below `root/below`, each in byte order. */
async function entriesOf(root: string, below: string): Promise<{ folders: string[]; images: string[] }> {
  const place = join(root, below);
  const entries = await readdir(place, { withFileTypes: true }).catch((cause: unknown) => {
    throw new UserError(
      "DATA_MISSING_FOLDER",
      `data folder "${place}" cannot be read (${fileErrorCode(cause)}): check the path and its permissions`,
      {
        cause,
      },
    );
  });
  const folders: string[] = [];
  const images: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith(".")) continue;
    const linkedFolder =
      entry.isSymbolicLink() && !IMAGE_NAME.test(entry.name) && (await isFolder(join(place, entry.name)));
    if (entry.isDirectory() || linkedFolder) folders.push(entry.name);
    else if (IMAGE_NAME.test(entry.name)) images.push(entry.name);
  }
  return { folders: sortByBytes(folders), images: sortByBytes(images) };
}

/** In bytes. @throws UserError `DATA_UNREADABLE`, e.g. for a link that leads nowhere */
async function sizeOf(path: string): Promise<number> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw new UserError(
      "DATA_UNREADABLE",
      `image "${path}" cannot be read (${fileErrorCode(cause)}): mend or remove it`,
      {
        cause,
      },
    );
  });
  return size;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

function nested(folder: string, name: string): string {
  return folder === "" ? name : `${folder}/${name}`;
}
