/** Writes checkpoints off the coordinator's main thread: hashing and a slow disk hold nobody up. One at a time, as asked. */
import { parentPort, workerData } from "node:worker_threads";
import { writeCheckpoint, type CheckpointMeta } from "../src/checkpoint/index.js";
import { queueRowLength } from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { UserError } from "../src/protocol/errors.js";
import type { TrainingState } from "./aggregator.js";
import { stateHistograms, type StateHistogram } from "./state-histograms.js";
import { toGroups } from "./stored-state.js";

export interface CheckpointThreadData {
  readonly config: RunConfig;
  readonly layout: ParameterLayout;
  /** run directory */
  readonly out: string;
  /** whether histograms of the state come with the answer */
  readonly histograms: boolean;
}

export interface CheckpointRequest {
  readonly meta: CheckpointMeta;
  /** in shared memory, unwritten until the answer */
  readonly state: TrainingState;
  /** float32 `[K, D]`, of the receiver's own */
  readonly queueKeys: Float32Array;
}

export type CheckpointReport =
  | {
      readonly kind: "written";
      readonly step: number;
      readonly directory: string;
      readonly histograms: readonly StateHistogram[];
    }
  /** the system refused, e.g. on a full disk */
  | { readonly kind: "failed"; readonly step: number; readonly reason: string };

const { config, layout, out, histograms } = workerData as CheckpointThreadData;
if (parentPort === null) throw new Error("checkpoints are written in a thread of the coordinator");
const coordinator = parentPort;

function histogramsOf({ query }: TrainingState, keys: Float32Array): StateHistogram[] {
  const { embeddingDim: dimension } = config.model;
  return stateHistograms(layout, query, { keys, rowLength: queueRowLength(config), dimension });
}

async function write({ meta, state, queueKeys }: CheckpointRequest): Promise<CheckpointReport> {
  const step = state.version;
  const groups = toGroups(layout, state, queueKeys, config);
  try {
    const directory = await writeCheckpoint(out, { step, meta, groups }, { keep: config.checkpoint.keep });
    return { kind: "written", step, directory, histograms: histograms ? histogramsOf(state, queueKeys) : [] };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { kind: "failed", step, reason: error.message };
  }
}

coordinator.on("message", (request: CheckpointRequest | null) => {
  if (request === null) {
    coordinator.close();
    return;
  }
  void write(request).then((report) => {
    coordinator.postMessage(report);
  });
});
