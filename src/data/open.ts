/** From a data `SPEC` to a data set. */
import { openCifar10 } from "./cifar10.js";
import type { Dataset } from "./dataset.js";
import { openFolder } from "./folder.js";
import { parseDataSpec } from "./spec.js";
import { openSynthetic } from "./synthetic/source.js";

export interface OpenOptions {
  /** side of the square that each sample is decoded to, in pixels */
  readonly decodeSize: number;
}

/**
 * Lists the data set; decodes nothing yet.
 * @param spec `synthetic[:…]`, `folder:PATH` or `cifar10:PATH`; a relative path is taken from the working directory
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
      return openCifar10(parsed.path, options.decodeSize);
  }
}
