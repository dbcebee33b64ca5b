/** The work of `tandem evaluate geometry` and `plot`. Loads the engine. */
import { openRunDataset, type RunDataset, type Split } from "../data/index.js";
import {
  augmentedExtractor,
  encoderExtractor,
  extractFeatures,
  featureBatches,
  keySide,
  type Extractor,
} from "../evaluation/extract.js";
import { frozenEncoder, type Embedding, type FrozenEncoder } from "../evaluation/features.js";
import { alignment, uniformity } from "../evaluation/geometry.js";
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
  const sides = [dataset, keySide(dataset)] as const;
  const measured = async (what: Embedding): Promise<Geometry & { readonly samples: number }> => {
    const embedded = (view: 0 | 1) => {
      const views = { augmentation, what, seed, epoch: 0, view };
      const extractor = augmentedExtractor(frozen, config, views, sides[view], split);
      return unitRows(extractor, sides[view], split, most);
    };
    const [left, right] = [await embedded(0), await embedded(1)];
    const { dimension } = left;
    const uniform = uniformity(left.rows, dimension);
    // A key that cannot be decoded has another in its place, which is no match.
    const matched = left.samples
      .map((sample, row) => (sample === right.samples[row] ? row : -1))
      .filter((row) => row >= 0);
    const [queries, keys] = [left, right].map(({ rows }) => rowsOf(rows, matched, dimension));
    return { alignment: alignment(queries, keys, dimension), uniformity: uniform, samples: left.samples.length };
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
  readonly dataset: RunDataset;
  readonly split: Split;
  readonly most: number;
}> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  const frozen = frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, "query", path));
  const dataset = await openRunDataset(spec, config);
  const split = dataset.splits.test.length > 0 ? "test" : "train";
  const most = split === "test" ? maxTest : maxTrain;
  if (Math.min(most, dataset.splits[split].length) < 2) {
    throw new UserError("DATA_TOO_FEW", `data ${spec} has fewer than two samples: geometry compares them`);
  }
  return { frozen, dataset, split, most };
}

interface UnitRows {
  /** `[n, dimension]`, each of unit length */
  readonly rows: Float32Array;
  /** `[n]`: what each is of */
  readonly samples: Int32Array;
  readonly dimension: number;
}

async function unitRows(extractor: Extractor, dataset: RunDataset, split: Split, most: number): Promise<UnitRows> {
  const { dimension } = extractor;
  const count = Math.min(most, dataset.splits[split].length);
  const [rows, samples] = [new Float32Array(count * dimension), new Int32Array(count)];
  for await (const batch of featureBatches(extractor, dataset, split, most, warn)) {
    rows.set(batch.features, batch.start * dimension);
    samples.set(batch.samples, batch.start);
  }
  for (let start = 0; start < rows.length; start += dimension) {
    const row = rows.subarray(start, start + dimension);
    const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    if (length > 0) row.forEach((value, i) => (row[i] = value / length));
  }
  return { rows, samples, dimension };
}

/** @param chosen numbers of rows */
function rowsOf(rows: Float32Array, chosen: Int32Array, dimension: number): Float32Array {
  const kept = new Float32Array(chosen.length * dimension);
  chosen.forEach((row, place) => kept.set(rows.subarray(row * dimension, (row + 1) * dimension), place * dimension));
  return kept;
}
