/** Data that something can be classified by. */
import type { RunConfig } from "../config/index.js";
import {
  labelledLength,
  openRunDataset,
  openRunImages,
  type Dataset,
  type ImageDataset,
  type RunDataset,
} from "../data/index.js";
import { UserError } from "../protocol/errors.js";

/** @throws UserError `DATA_NOT_CLASSIFIABLE` where the data have no labels or no test split */
export function classified<D extends Dataset | RunDataset>(dataset: D, spec: string): D {
  if (dataset.classes.length > 0 && dataset.splits.test.length > 0) return dataset;
  const missing = dataset.classes.length === 0 ? "no labels" : "no test split";
  throw new UserError("DATA_NOT_CLASSIFIABLE", `data ${spec} has ${missing}: classifying needs ${wanted(spec)}`);
}

/** What a data set of that kind must have. */
function wanted(spec: string): string {
  if (spec.startsWith("folder:")) return "class folders under train/ and test/";
  if (spec.startsWith("pairs:")) return "a column of labels (label=COLUMN) and test=FILE";
  return "labels and a test split";
}

/** @throws UserError as `classified` and `openRunDataset` */
export async function openClassified(spec: string, config: RunConfig): Promise<RunDataset> {
  return classified(await openRunDataset(spec, config), spec);
}

/** @throws UserError as `classified` and `openRunImages` */
export async function openClassifiedImages(spec: string, config: RunConfig): Promise<ImageDataset> {
  return classified(await openRunImages(spec, config, "tandem evaluate linear takes texts too"), spec);
}

/** Labels of the first training samples, at most `most`; samples without a label stand behind them. int32 `[n]` */
export function trainingLabels({ splits }: Dataset | RunDataset, most: number): Int32Array {
  return splits.train.labels.slice(0, Math.min(most, labelledLength(splits.train)));
}
