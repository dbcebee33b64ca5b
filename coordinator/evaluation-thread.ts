/** Classifies off the coordinator's main thread: one question, one answer. */
import { parentPort, workerData } from "node:worker_threads";
import type { Accuracy } from "../src/evaluation/softmax-regression.js";
import {
  knnAccuracy,
  neighbourhoods,
  type KnnOptions,
  type LabelledFeatures,
  type Neighbourhood,
} from "../src/evaluation/knn.js";
import { spread } from "../src/data/spread.js";

export interface EvaluationThreadData {
  readonly bank: LabelledFeatures;
  readonly test: LabelledFeatures;
  readonly options: KnnOptions;
  /** seed of the samples that a linear probe holds out; null: no probe */
  readonly probeSeed: number | null;
}

/** Accuracies are in [0, 1]. */
export interface Scores {
  /** top-1 accuracy of weighted k-nearest neighbours */
  readonly knn: number;
  /** accuracy of a linear probe; null where none was asked for */
  readonly linear: Pick<Accuracy, "top1" | "top5"> | null;
  /** what is nearest to a few test samples, the same at each evaluation */
  readonly nearest: readonly Neighbourhood[];
}

/** For people to look at. */
const TEST_SAMPLES_SHOWN = 6;
const NEIGHBOURS_SHOWN = 5;

const { bank, test, options, probeSeed } = workerData as EvaluationThreadData;

async function probe(seed: number): Promise<Scores["linear"]> {
  // Loads the engine, which kNN does without.
  const { linearProbe } = await import("../src/evaluation/linear-probe.js");
  const { classes } = options;
  const { top1, top5 } = linearProbe(bank, test, { solver: "lbfgs", classes, epochs: 0, seed, copies: 1 });
  return { top1, top5 };
}

const scores: Scores = {
  knn: knnAccuracy(bank, test, options),
  linear: probeSeed === null ? null : await probe(probeSeed),
  nearest: neighbourhoods(bank, test, spread(test.labels.length, TEST_SAMPLES_SHOWN), NEIGHBOURS_SHOWN),
};
parentPort?.postMessage(scores);
