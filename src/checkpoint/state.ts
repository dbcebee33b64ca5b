/** What a checkpoint holds, and its digests. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { runConfigSchema } from "../config/schema.js";
import { bytesOf, type NamedTensor } from "./safetensors.js";

/** Groups of tensors, one file each: θq, θk, the optimizer's state, batch-norm buffers of both encoders, the queue. */
export const CHECKPOINT_GROUPS = ["query", "key", "optimizer", "buffers", "queue"] as const;
export type CheckpointGroup = (typeof CHECKPOINT_GROUPS)[number];

export const checkpointMetaSchema = z.object({
  runId: z.string(),
  config: runConfigSchema,
  /** hex sha256 of the data set's listing */
  manifestHash: z.string(),
  /** hex sha256 of the fixed training step that every worker of the run agreed on; null before the first worker */
  engineFingerprint: z.string().nullable(),
  /** hex sha256 of the file of weights that the run began with; undefined: they were drawn */
  init: z.string().optional(),
  /** encoder's name; the tensors' names and shapes say the rest */
  architecture: z.string(),
  /** row of the queue that the next key overwrites; undefined: W·B times the step, modulo its size */
  queuePosition: z.number().int().min(0).optional(),
  /** false once a worker took part whose engine computes other bits */
  reproducible: z.boolean().default(true),
  /** kNN accuracy in [0, 1] as last measured; null: never */
  knn: z.number().min(0).max(1).nullable(),
});

export type CheckpointMeta = z.infer<typeof checkpointMetaSchema>;

export interface CheckpointState {
  /** optimizer updates applied */
  readonly step: number;
  readonly meta: CheckpointMeta;
  readonly groups: Readonly<Record<CheckpointGroup, readonly NamedTensor[]>>;
}

/** Hex sha256 of each group. */
export type Digests = Readonly<Record<CheckpointGroup, string>>;

/** Over names, types, shapes and raw bytes, by name: the same for the same state, however a file lays it out. */
export function digestsOf(groups: CheckpointState["groups"]): Digests {
  const digest = (group: CheckpointGroup) => {
    const hash = createHash("sha256");
    const byName = [...groups[group]].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, dtype, shape, data } of byName) {
      hash.update(`${JSON.stringify([name, dtype, shape])}\n`).update(bytesOf(data));
    }
    return hash.digest("hex");
  };
  return {
    query: digest("query"),
    key: digest("key"),
    optimizer: digest("optimizer"),
    buffers: digest("buffers"),
    queue: digest("queue"),
  };
}
