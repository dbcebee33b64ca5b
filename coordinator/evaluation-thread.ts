/** kNN accuracy off the coordinator's main thread: one question, one answer. */
import { parentPort, workerData } from "node:worker_threads";
import { knnAccuracy, type KnnOptions, type LabelledFeatures } from "../src/evaluation/knn.js";

export interface EvaluationThreadData {
  readonly bank: LabelledFeatures;
  readonly test: LabelledFeatures;
  readonly options: KnnOptions;
}

const { bank, test, options } = workerData as EvaluationThreadData;
parentPort?.postMessage(knnAccuracy(bank, test, options));
