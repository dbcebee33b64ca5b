/** Between the run's vectors and a checkpoint's named tensors. */
import { CHECKPOINT_GROUPS, type CheckpointState, type NamedTensor } from "../src/checkpoint/index.js";
import type { RunConfig } from "../src/config/schema.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { KeyQueue } from "../src/objectives/key-queue.js";
import { UserError } from "../src/protocol/errors.js";
import { sharedFloats } from "../src/protocol/frames.js";
import type { TrainingState } from "./aggregator.js";

interface Slice {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly size: number;
}

const parameterSlices = (layout: ParameterLayout): readonly Slice[] => layout.parameters;
const bufferSlices = (layout: ParameterLayout, prefix: string): readonly Slice[] =>
  layout.buffers.map(({ name, offset, size }) => ({ name: `${prefix}.${name}`, shape: [size], offset, size }));

function cut(vector: Float32Array, slices: readonly Slice[]): NamedTensor[] {
  return slices.map(({ name, shape, offset, size }) => ({
    name,
    dtype: "F32",
    shape,
    data: vector.subarray(offset, offset + size),
  }));
}

function join(tensors: readonly NamedTensor[], slices: readonly Slice[], where: string): Float32Array {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const vector = sharedFloats(slices.reduce((sum, { size }) => sum + size, 0));
  for (const { name, shape, offset } of slices) {
    const tensor = byName.get(name);
    if (tensor === undefined || !(tensor.data instanceof Float32Array) || tensor.shape.join() !== shape.join()) {
      const found = tensor === undefined ? "is missing" : `has shape [${tensor.shape.join(", ")}]`;
      throw new UserError(
        "CHECKPOINT_ARCHITECTURE",
        `${where} is of another architecture: ${name} ${found}, the config wants [${shape.join(", ")}]; ` +
          "resume with the config that made it, or start a new run",
      );
    }
    vector.set(tensor.data, offset);
  }
  return vector;
}

export function toGroups(
  layout: ParameterLayout,
  state: TrainingState,
  queueKeys: Float32Array,
  embeddingDim: number,
): CheckpointState["groups"] {
  const queue: NamedTensor = {
    name: "queue",
    dtype: "F32",
    shape: [queueKeys.length / embeddingDim, embeddingDim],
    data: queueKeys,
  };
  return {
    query: cut(state.query, parameterSlices(layout)),
    key: cut(state.key, parameterSlices(layout)),
    optimizer: cut(state.velocity, parameterSlices(layout)),
    buffers: [
      ...cut(state.queryBuffers, bufferSlices(layout, "query")),
      ...cut(state.keyBuffers, bufferSlices(layout, "key")),
    ],
    queue: [queue],
  };
}

/**
 * @param where how to call the checkpoint in a message
 * @throws UserError `CHECKPOINT_ARCHITECTURE` where a tensor is missing or has another shape
 */
export function fromGroups(
  layout: ParameterLayout,
  checkpoint: CheckpointState,
  config: RunConfig,
  where: string,
): { readonly state: TrainingState; readonly queue: KeyQueue } {
  const { groups, step } = checkpoint;
  const parameters = (group: (typeof CHECKPOINT_GROUPS)[number]) => join(groups[group], parameterSlices(layout), where);
  const buffers = (prefix: string) => join(groups.buffers, bufferSlices(layout, prefix), where);
  const { queueSize } = config.moco;
  const { embeddingDim } = config.model;
  const keys = join(
    groups.queue,
    [{ name: "queue", shape: [queueSize, embeddingDim], offset: 0, size: queueSize * embeddingDim }],
    where,
  );
  const position = checkpoint.meta.queuePosition ?? step * config.parallel.worldSize * config.parallel.batchSize;
  return {
    state: {
      version: step,
      query: parameters("query"),
      key: parameters("key"),
      velocity: parameters("optimizer"),
      queryBuffers: buffers("query"),
      keyBuffers: buffers("key"),
    },
    queue: KeyQueue.restore(keys, queueSize, embeddingDim, position),
  };
}
