/** From a data `SPEC` to a data set. */
import { UserError } from "../protocol/errors.js";
import { openCifar } from "./cifar.js";
import { CIFAR10 } from "./cifar10.js";
import { CIFAR100 } from "./cifar100.js";
import type { Dataset, ImageDataset } from "./dataset.js";
import { openFolder } from "./folder.js";
import { openPairs } from "./pairs.js";
import { parseDataSpec } from "./spec.js";
import { openStl10 } from "./stl10.js";
import { openSynthetic } from "./synthetic/source.js";
import { openText } from "./text.js";
import { openWebDataset } from "./webdataset.js";

export interface OpenOptions {
  /** side of the square that each sample is decoded to, in pixels */
  readonly decodeSize: number;
}

/**
 * Lists the data set; decodes nothing yet.
 * @param spec `synthetic[:…]`, `folder:PATH`, `cifar10:PATH`, `cifar100:PATH`, `stl10:PATH[,split=train|unlabeled|train+unlabeled]`, `webdataset:SHARDS[,test=SHARDS]`,
 *   `text:PATH[,text=FIELD][,label=FIELD][,test=PATH]` or `pairs:FILE[,query=COLUMN][,key=COLUMN][,label=COLUMN][,test=FILE]`; a
 *   relative path is taken from the working directory
 * @throws UserError with a `DATA_…` code where the spec or the data are wrong
 */
export async function openDataset(spec: string, options: OpenOptions): Promise<Dataset> {
  const parsed = parseDataSpec(spec);
  switch (parsed.kind) {
    case "synthetic":
      return openSynthetic(parsed, options.decodeSize);
    case "folder":
      return openFolder(parsed.path, options.decodeSize);
    case "cifar10":
      return openCifar(CIFAR10, parsed.path, options.decodeSize);
    case "cifar100":
      return openCifar(CIFAR100, parsed.path, options.decodeSize);
    case "stl10":
      return openStl10(parsed, options.decodeSize);
    case "webdataset":
      return openWebDataset(parsed, options.decodeSize);
    case "text":
      return openText(parsed);
    case "pairs":
      return openPairs(parsed, options.decodeSize);
  }
}

/** A data set of images. @throws UserError as `openDataset`, and `DATA_NO_PICTURES` where it holds texts */
export async function openImages(spec: string, options: OpenOptions): Promise<ImageDataset> {
  const dataset = await openDataset(spec, options);
  if (dataset.modality === "image") return dataset;
  throw new UserError("DATA_NO_PICTURES", `data ${spec} holds texts, and pictures are wanted here: name other data`);
}
