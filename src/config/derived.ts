/** Numbers that follow from a run config and the size of its data set. */
import { isOwnFile } from "./own-file.js";
import type { RunConfig } from "./schema.js";

/** What says which method it is. */
type Method = Pick<RunConfig, "method" | "ownMethod">;

/** What a method calls for beside its loss. */
interface MethodTraits {
  /** whether it learns from labels, which then travel with the embeddings */
  readonly labels: boolean;
  /** where negatives come from: the queue, or the global batch, whose embeddings (by θk or θq) the ranks then show each other */
  readonly negatives: "queue" | "keys" | "queries";
}

const TRAITS: Readonly<Record<Exclude<RunConfig["method"], "own">, MethodTraits>> = {
  "moco-v1": { labels: false, negatives: "queue" },
  "moco-v2": { labels: false, negatives: "queue" },
  "moco-v3": { labels: false, negatives: "keys" },
  simclr: { labels: false, negatives: "queries" },
  supcon: { labels: true, negatives: "queries" },
  "supcon-queue": { labels: true, negatives: "queue" },
};

function traitsOf({ method, ownMethod }: Method): MethodTraits {
  if (method !== "own") return TRAITS[method];
  return { labels: ownMethod.labels, negatives: ownMethod.negatives === "queue" ? "queue" : "queries" };
}

/** Whether a method learns from labels, which then travel with the embeddings. */
export function usesLabels(config: Method): boolean {
  return traitsOf(config).labels;
}

/** Whether a method's negatives come from the queue; from the global batch otherwise. */
export function usesQueue(config: Method): boolean {
  return traitsOf(config).negatives === "queue";
}

/**
 * What convolutions and matrix products round their weights to, of either encoder, before they compute with them: what a file of the user's own
 * does with them is not known.
 */
export function weightsPrecision({ engine, model }: Pick<RunConfig, "engine" | "model">): "fp32" | "bf16" {
  return engine.mode !== "eager" && !isOwnFile(model.encoder) ? engine.precision : "fp32";
}

/** Whether the ranks of a step show each other embeddings before gradients are computed. */
export function usesExchange(config: Method & Pick<RunConfig, "moco">): boolean {
  return !usesQueue(config) || config.moco.shuffle === "across-ranks";
}

/**
 * Values that a rank shows the others in each round of a step.
 * @param bufferCount values of the encoder's batch-norm buffers
 * @returns null where batch norm is of the global batch: the rounds follow from the step's graph
 */
export function roundsOf(
  config: Method & Pick<RunConfig, "model" | "moco" | "parallel">,
  bufferCount: number,
): readonly number[] | null {
  if (config.model.syncBatchNorm) return null;
  return usesExchange(config) ? [shownLength(config, bufferCount)] : [];
}

/** Whether embeddings that are exchanged are the key encoder's, and come with its batch-norm statistics. */
export function exchangesKeys(config: Method & Pick<RunConfig, "moco">): boolean {
  return usesExchange(config) && traitsOf(config).negatives !== "queries";
}

/**
 * Whether a rank stands still in the midst of its step, holding its forward pass, until others have shown what it waits for: for batch
 * norm of the global batch, and where it goes on with the very embeddings that it shows.
 */
export function standsStill(config: Method & Pick<RunConfig, "moco" | "model" | "engine">): boolean {
  if (config.model.syncBatchNorm) return true;
  const showsOwn = usesExchange(config) && !exchangesKeys(config);
  return showsOwn && config.engine.mode === "compiled";
}

/** Values of one embedding that travels: with its label where the method uses labels. */
function rowLength(config: Method & Pick<RunConfig, "model">): number {
  return config.model.embeddingDim + (usesLabels(config) ? 1 : 0);
}

/** Values of one row of the queue; 0 where the method has none. */
export function queueRowLength(config: Method & Pick<RunConfig, "model">): number {
  return usesQueue(config) ? rowLength(config) : 0;
}

/** What a rank shows the others. */
export interface ShownShape {
  /** embeddings: of B samples, or of both views of them */
  readonly rows: number;
  readonly width: number;
  /** values of batch-norm statistics that follow */
  readonly statistics: number;
}

/** @param bufferCount values of the encoder's batch-norm buffers */
export function shownShape(
  config: Method & Pick<RunConfig, "model" | "moco" | "parallel">,
  bufferCount: number,
): ShownShape {
  if (!usesExchange(config)) return { rows: 0, width: 0, statistics: 0 };
  const { batchSize } = config.parallel;
  // With a queue the keys are shown, and get their labels later, from the rank whose samples they are of.
  if (usesQueue(config)) return { rows: batchSize, width: config.model.embeddingDim, statistics: bufferCount };
  const statistics = exchangesKeys(config) ? bufferCount : 0;
  return { rows: 2 * batchSize, width: rowLength(config), statistics };
}

/** E, the values that one rank shows. */
export function shownLength(
  config: Method & Pick<RunConfig, "model" | "moco" | "parallel">,
  bufferCount: number,
): number {
  const { rows, width, statistics } = shownShape(config, bufferCount);
  return rows * width + statistics;
}

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
