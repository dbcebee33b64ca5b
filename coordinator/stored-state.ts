/** Between the run's vectors and a checkpoint's named tensors. */
import type { CheckpointState, NamedTensor } from "../src/checkpoint/index.js";
import { optimizerVectors } from "../src/config/optimizer.js";
import { queueRowLength } from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { KeyQueue } from "../src/objectives/key-queue.js";
import { UserError } from "../src/protocol/errors.js";
import type { TrainingState } from "./aggregator.js";

interface Slice {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly size: number;
}

const parameterSlices = (layout: ParameterLayout, prefix = ""): readonly Slice[] =>
  layout.parameters.map(({ name, shape, offset, size }) => ({ name: prefix + name, shape, offset, size }));
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
  const vector = new Float32Array(slices.reduce((sum, { size }) => sum + size, 0));
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

/** Number of updates that the optimizer has made, as PyTorch's optimizers call it. */
const UPDATES = "step";

function updatesOf(tensors: readonly NamedTensor[], where: string): number {
  const data = tensors.find(({ name }) => name === UPDATES)?.data;
  if (data instanceof BigInt64Array && data.length === 1) return Number(data[0]);
  throw new UserError("CHECKPOINT_OPTIMIZER", `${where} does not say how many updates were made: start a new run`);
}

export function toGroups(
  layout: ParameterLayout,
  state: TrainingState,
  queueKeys: Float32Array,
  config: RunConfig,
): CheckpointState["groups"] {
  const queue: NamedTensor = {
    name: "queue",
    dtype: "F32",
    shape: [config.moco.queueSize, queueRowLength(config)],
    data: queueKeys,
  };
  return {
    query: cut(state.query, parameterSlices(layout)),
    key: cut(state.key, parameterSlices(layout)),
    optimizer: [
      ...optimizerVectors(config.optimizer.kind).flatMap((prefix, index) =>
        cut(state.optimizer[index], parameterSlices(layout, `${prefix}.`)),
      ),
      { name: UPDATES, dtype: "I64", shape: [], data: BigInt64Array.of(BigInt(state.updates)) },
    ],
    buffers: [
      ...cut(state.queryBuffers, bufferSlices(layout, "query")),
      ...cut(state.keyBuffers, bufferSlices(layout, "key")),
    ],
    queue: [queue],
  };
}

/**
 * @param where how to call the checkpoint in a message
 * @throws UserError `CHECKPOINT_OPTIMIZER` where it was made with another kind of optimizer, `CHECKPOINT_ARCHITECTURE` where a
 *   tensor is missing or has another shape
 */
export function fromGroups(
  layout: ParameterLayout,
  checkpoint: CheckpointState,
  config: RunConfig,
  where: string,
): { readonly state: TrainingState; readonly queue: KeyQueue } {
  const { groups, step } = checkpoint;
  const { kind } = config.optimizer;
  const stored = checkpoint.meta.config.optimizer.kind;
  if (stored !== kind) {
    throw new UserError(
      "CHECKPOINT_OPTIMIZER",
      `${where} was made with optimizer.kind = ${stored}, whose state says nothing to ${kind}: resume with ${stored}, or start ` +
        "a new run",
    );
  }
  const parameters = (group: "query" | "key") => join(groups[group], parameterSlices(layout), where);
  const buffers = (prefix: string) => join(groups.buffers, bufferSlices(layout, prefix), where);
  const { queueSize } = config.moco;
  const row = queueRowLength(config);
  const keys = join(
    groups.queue,
    [{ name: "queue", shape: [queueSize, row], offset: 0, size: queueSize * row }],
    where,
  );
  const position = checkpoint.meta.queuePosition ?? step * config.parallel.worldSize * config.parallel.batchSize;
  return {
    state: {
      version: step,
      updates: updatesOf(groups.optimizer, where),
      query: parameters("query"),
      key: parameters("key"),
      optimizer: optimizerVectors(kind).map((prefix) =>
        join(groups.optimizer, parameterSlices(layout, `${prefix}.`), where),
      ),
      queryBuffers: buffers("query"),
      keyBuffers: buffers("key"),
    },
    queue: KeyQueue.restore(keys, queueSize, row, position),
  };
}
