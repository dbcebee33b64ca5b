/** Numbers that follow from a run config and the size of its data set. */
import type { RunConfig } from "./schema.js";

export interface RunLength {
  readonly globalBatch: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
}

/** @param trainLength samples in the training split; the last partial global batch of an epoch is dropped */
export function runLength(config: RunConfig, trainLength: number): RunLength {
  const globalBatch = config.parallel.worldSize * config.parallel.batchSize;
  const stepsPerEpoch = Math.floor(trainLength / globalBatch);
  const totalSteps = config.schedule.steps ?? config.schedule.epochs * stepsPerEpoch;
  return { globalBatch, stepsPerEpoch, totalSteps };
}
