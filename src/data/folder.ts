/** A folder of image files as a data set. */
import { resolve } from "node:path";
import type { ImageDataset } from "./dataset.js";
import { listFolder } from "./folder-listing.js";
import { ImageFiles } from "./image-files.js";
import { manifestHash } from "./manifest.js";

/** @throws UserError as `listFolder` does */
export async function openFolder(path: string, decodeSize: number): Promise<ImageDataset> {
  const root = resolve(path);
  const { classes, splits } = await listFolder(root);
  return {
    modality: "image",
    classes,
    decodeSize,
    splits: {
      train: new ImageFiles(root, splits.train, decodeSize),
      test: new ImageFiles(root, splits.test, decodeSize),
    },
    manifestHash: manifestHash("folder", [...splits.train, ...splits.test]),
  };
}
