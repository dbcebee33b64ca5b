/** The work of `tandem evaluate geometry` and `plot`. Loads the engine. */
import { openRunImages, type ImageDataset, type Split } from "../data/index.js";
import { augmentedExtractor, encoderExtractor, extractFeatures } from "../evaluation/extract.js";
import { frozenEncoder, type Embedding, type FrozenEncoder } from "../evaluation/features.js";
import { alignment, uniformity } from "../evaluation/geometry.js";
import type { LabelledFeatures } from "../evaluation/knn.js";
import { principalComponents } from "../evaluation/principal-components.js";
import { scatterPlot } from "../evaluation/scatter-plot.js";
import { encoderOf } from "../models/index.js";
import { UserError } from "../protocol/errors.js";
import { encoderStateOf } from "./checkpoint-encoder.js";
import type { OpenedEvaluation } from "./evaluation-options.js";
import { warn } from "./run-display.js";

export interface Geometry {
  readonly alignment: number;
  readonly uniformity: number;
}

export type GeometryResult = Readonly<Record<Embedding, Geometry>> & {
  readonly split: Split;
  readonly samples: number;
};

/** Of the test split, or where there is none of the training split; positive pairs are two views as the run draws them. */
export async function evaluateGeometry(opened: OpenedEvaluation, seed: number): Promise<GeometryResult> {
  const { config } = opened.checkpoint.meta;
  const { augmentation } = config;
  const { frozen, dataset, split, most } = await openedFor(opened);
  const measured = async (what: Embedding): Promise<Geometry & { readonly samples: number }> => {
    const embedded = async (view: 0 | 1) => {
      const extractor = augmentedExtractor(frozen, config, { augmentation, what, seed, epoch: 0, view });
      return unitRows(await extractFeatures(extractor, dataset, split, most, warn));
    };
    const { features: left, dimension } = await embedded(0);
    const { features: right, labels } = await embedded(1);
    return {
      alignment: alignment(left, right, dimension),
      uniformity: uniformity(left, dimension),
      samples: labels.length,
    };
  };
  const { samples, ...features } = await measured("features");
  const { alignment: aligned, uniformity: uniform } = await measured("projection");
  return { split, samples, features, projection: { alignment: aligned, uniformity: uniform } };
}

/** @returns an SVG file */
export async function plotFeatures(opened: OpenedEvaluation, what: Embedding): Promise<string> {
  const { frozen, dataset, split, most } = await openedFor(opened);
  const extractor = encoderExtractor(frozen, opened.checkpoint.meta.config, what);
  const { features, labels, dimension } = await extractFeatures(extractor, dataset, split, most, warn);
  const { points, shares } = principalComponents(features, dimension);
  const axis = (component: 0 | 1) =>
    `principal component ${component + 1} (${(100 * shares[component]).toFixed(1)}% of the variance)`;
  return scatterPlot({
    title: `${what} of ${labels.length} ${split} samples at step ${opened.checkpoint.step}`,
    axes: [axis(0), axis(1)],
    points,
    labels,
    classes: dataset.classes,
  });
}

async function openedFor({ path, checkpoint, spec, maxTrain, maxTest }: OpenedEvaluation): Promise<{
  readonly frozen: FrozenEncoder;
  readonly dataset: ImageDataset;
  readonly split: Split;
  readonly most: number;
}> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  const frozen = frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, "query", path));
  const dataset = await openRunImages(spec, config);
  const split = dataset.splits.test.length > 0 ? "test" : "train";
  const most = split === "test" ? maxTest : maxTrain;
  if (Math.min(most, dataset.splits[split].length) < 2) {
    throw new UserError("DATA_TOO_FEW", `data ${spec} has fewer than two samples: geometry compares them`);
  }
  return { frozen, dataset, split, most };
}

function unitRows({ features, labels, dimension }: LabelledFeatures): LabelledFeatures {
  const unit = features.slice();
  for (let start = 0; start < unit.length; start += dimension) {
    const row = unit.subarray(start, start + dimension);
    const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    if (length > 0) row.forEach((value, i) => (row[i] = value / length));
  }
  return { features: unit, labels, dimension };
}
