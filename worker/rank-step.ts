/** One logical rank's part of a step as functions of tensors alone: what is compiled, and what runs eagerly. */
import { queueRowLength, shownShape, standsStill, usesExchange, usesLabels, usesQueue } from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import {
  acrossRanks,
  CannotCompile,
  compile,
  isKept,
  tf,
  tidied,
  type CompiledStep,
  type CompileOptions,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type TensorTree,
} from "../src/engine/index.js";
import { UserError } from "../src/protocol/errors.js";
import type { Encoder } from "../src/models/index.js";
import {
  objectiveOf,
  withLabels,
  type Exchanged,
  type Objective,
  type ShowInput,
  type Shown,
  type StepInput,
  type StepResult,
} from "../src/objectives/index.js";
import { sampleKind, type SampleTensors } from "./sample-tensors.js";

/** What is known of a rank's samples. (A type, since tfjs takes no interface for a container of tensors.) */
export type SampleInputs = {
  readonly samples: SampleTensors;
  /** float32 `[B]` classes of the samples; null where the method uses none */
  readonly labels: Tensor1D | null;
};

/** What a rank needs to show its embeddings: they are of θq or of θk, by the method. */
export type ShowInputs = SampleInputs & { readonly query: readonly Tensor[]; readonly key: readonly Tensor[] };

/** Everything that differs from step to step; and int32 `[]`, the table to which a compiled step hands its gradients over (`HandOver`). */
export type RankInputs = ShowInputs &
  Pick<StepInput, "queue" | "keyShuffle" | "exchanged"> & { readonly table: Tensor };

/** `own`: float32 `[W]`, 1 for this rank, 0 for the others. (A type, since tfjs takes no interface for a container of tensors.) */
export type LockstepInputs = Omit<RankInputs, "exchanged"> & Pick<Exchanged, "own">;

/** (A type, since tfjs takes no interface for a container of tensors.) */
export type RankResult = Omit<StepResult, "keys"> & {
  /** `[B, D]`, or `[B, D + 1]` with labels: what enters the queue; null where there is none */
  readonly rows: Tensor2D | null;
};

type RankFunctions = {
  readonly step: (inputs: RankInputs) => RankResult;
  /** null where nothing is exchanged */
  readonly show: ((inputs: ShowInputs) => Shown) | null;
};

/** `lockstepOf` a run's step: batch norm is of the rank's own batch, or of all. */
export function lockstepFunction(
  config: RunConfig,
  encoder: Encoder,
  objective: Objective,
): (inputs: LockstepInputs) => RankResult {
  const { worldSize } = config.parallel;
  const together = config.model.syncBatchNorm ? worldSize : 1;
  return lockstepOf(rankFunctions(config, encoder, objective, together), worldSize);
}

/**
 * A rank's whole part of a step whose ranks wait for each other in the midst of it. What a method shows is one more thing that they
 * tell each other, beside batch norm's sums; the forward pass for it and that of the step are one, once they are merged.
 * @param show null where nothing is exchanged
 */
export function lockstepOf<In extends Pick<RankInputs, "exchanged">, Out extends Pick<StepResult, "keyStatistics">>(
  functions: {
    readonly step: (inputs: In) => Out;
    readonly show: ((inputs: Omit<In, "exchanged">) => Shown) | null;
  },
  worldSize: number,
): (inputs: Omit<In, "exchanged"> & Pick<Exchanged, "own">) => Out {
  const { step, show } = functions;
  return ({ own, ...inputs }) =>
    tidied(() => {
      const given = inputs as unknown as Omit<In, "exchanged">;
      const stepAfter = (exchanged: Exchanged | null) => step({ ...given, exchanged } as In);
      if (show === null) return stepAfter(null);
      const { embeddings, statistics } = show(given);
      const [rows, width] = embeddings.shape;
      const all = acrossRanks(tf.reshape(embeddings, [rows * width]), worldSize);
      const block: Tensor2D = tf.reshape(all, [worldSize * rows, width]);
      const result = stepAfter({ block, own, rows: null });
      return { ...result, keyStatistics: [...statistics, ...result.keyStatistics] };
    });
}

/** @param ranks whose batches batch norm takes as one */
function rankFunctions(config: RunConfig, encoder: Encoder, objective: Objective, ranks = 1): RankFunctions {
  const kind = sampleKind(config);
  const inputOf = ({ samples, query, key, labels }: ShowInputs): ShowInput => ({
    encoder,
    query,
    key,
    ...kind.views(samples),
    labels,
    batchNorm: { splits: config.model.bnSplits, ranks },
    temperature: config.moco.temperature,
  });
  return {
    step: (inputs) =>
      tidied(() => {
        const { queue, keyShuffle, exchanged, labels } = inputs;
        const { keys, ...result } = objective.step({ ...inputOf(inputs), queue, keyShuffle, exchanged });
        return { ...result, rows: keys === null || labels === null ? keys : withLabels(keys, labels) };
      }),
    show: usesExchange(config) ? (inputs) => tidied(() => objective.show(inputOf(inputs))) : null,
  };
}

/** Inputs of the right shapes, all zero, to record the step with. */
function exampleInputs(
  config: RunConfig,
  encoder: Encoder,
): { step(): RankInputs; show(): ShowInputs; lockstep(): LockstepInputs } {
  const { worldSize, batchSize } = config.parallel;
  const kind = sampleKind(config);
  const parameters = () => encoder.layout.parameters.map(({ shape }) => tf.zeros([...shape]));
  const positions = () => tf.range(0, batchSize, 1, "int32");
  const shown = shownShape(config, encoder.layout.bufferCount);
  const show = (): ShowInputs => ({
    query: parameters(),
    key: parameters(),
    samples: kind.example(),
    labels: usesLabels(config) ? tf.zeros([batchSize]) : null,
  });
  const exchanged = (): Exchanged => ({
    block: tf.zeros([worldSize * shown.rows, shown.width]),
    own: tf.zeros([worldSize]),
    rows: usesQueue(config) ? positions() : null,
  });
  const given = (): Omit<RankInputs, "exchanged"> => ({
    ...show(),
    queue: usesQueue(config) ? tf.zeros([config.moco.queueSize, queueRowLength(config)]) : null,
    keyShuffle: shufflesWithin(config) ? { order: positions(), inverse: positions() } : null,
    table: tf.scalar(0, "int32"),
  });
  return {
    show,
    step: () => ({ ...given(), exchanged: usesExchange(config) ? exchanged() : null }),
    lockstep: () => ({ ...given(), own: tf.zeros([worldSize]) }),
  };
}

/** Disposes of the inputs once `use` is done with them. */
async function using<In, Result>(inputs: In, use: (inputs: In) => Promise<Result>): Promise<Result> {
  try {
    return await use(inputs);
  } finally {
    tf.dispose(inputs as never);
  }
}

/** Whether the key batch is shuffled across the groups that batch norm treats apart. */
export function shufflesWithin({ moco, model }: RunConfig): boolean {
  return moco.shuffle === "within-rank" && model.bnSplits > 1;
}

/** `graphMs`: time within TensorFlow's graph; 0 when running eagerly. The caller disposes of the result. */
interface Run<Result> {
  readonly result: Result;
  readonly graphMs: number;
}

export interface PreparedStep {
  readonly mode: "compiled" | "eager";
  run(inputs: RankInputs): Run<RankResult>;
  /** null where nothing is exchanged */
  readonly show: ((inputs: ShowInputs) => Run<Shown>) | null;
}

/** A step whose ranks wait for each other, which is compiled. */
export type PreparedLockstep = CompiledStep<LockstepInputs, RankResult>;

/**
 * The step as the config says, or as it can be had.
 * @param warn hears why the step runs otherwise than the config says
 * @throws UserError `CANNOT_COMPILE` where batch norm is of the global batch, since such a step does not run eagerly
 */
export async function prepareStep(
  config: RunConfig,
  encoder: Encoder,
  warn: (message: string) => void,
): Promise<PreparedStep | PreparedLockstep> {
  if (!standsStill(config)) return prepareRankStep(config, encoder, warn);
  const step = lockstepFunction(config, encoder, await objectiveOf(config));
  try {
    return await using(exampleInputs(config, encoder).lockstep(), (example) =>
      compile(step, example, compileOptions(config, "lockstep")),
    );
  } catch (cause) {
    if (!(cause instanceof CannotCompile)) throw cause;
    if (!config.model.syncBatchNorm) return prepareRankStep(config, encoder, warn);
    throw new UserError(
      "CANNOT_COMPILE",
      `model.syncBatchNorm = true needs a step that can be compiled, and this one cannot: ${cause.message}`,
      { cause },
    );
  }
}

function compileOptions(config: RunConfig, part: "step" | "show" | "lockstep"): CompileOptions {
  const { engine, method, model, moco, supcon, ownMethod, augmentation, data, parallel } = config;
  const { imageSize, maxLength } = data;
  const { threads } = parallel;
  const sizes = { imageSize, maxLength, threads };
  const identity = JSON.stringify({ part, method, model, moco, supcon, ownMethod, augmentation, ...sizes });
  // What is shown has none.
  return {
    precision: engine.precision,
    identity,
    ...(part === "show" ? {} : { handsOver: ["gradients", "queryStatistics", "keyStatistics"] }),
  };
}

/** Whether the step's graphs are kept on this machine, so that `prepareRankStep` need not record them. */
export async function isStepKept(config: RunConfig, encoder: Encoder): Promise<boolean> {
  const example = exampleInputs(config, encoder);
  const isPartKept = (part: keyof typeof example) =>
    using<TensorTree, boolean>(example[part](), (inputs) => isKept(inputs, compileOptions(config, part)));
  if (standsStill(config)) return isPartKept("lockstep");
  return (await isPartKept("step")) && (!usesExchange(config) || (await isPartKept("show")));
}

/** @param warn hears why the step runs eagerly although the config says compiled */
export async function prepareRankStep(
  config: RunConfig,
  encoder: Encoder,
  warn: (message: string) => void,
): Promise<PreparedStep> {
  const { step, show } = rankFunctions(config, encoder, await objectiveOf(config));
  const eager: PreparedStep = {
    mode: "eager",
    run: (inputs) => ({ result: step(inputs), graphMs: 0 }),
    show: show === null ? null : (inputs) => ({ result: show(inputs), graphMs: 0 }),
  };
  if (config.engine.mode === "eager") return eager;
  const example = exampleInputs(config, encoder);
  try {
    const whole = await using(example.step(), (inputs) => compile(step, inputs, compileOptions(config, "step")));
    const shown =
      show === null
        ? null
        : await using(example.show(), (inputs) => compile(show, inputs, compileOptions(config, "show")));
    return {
      mode: "compiled",
      run: (inputs) => {
        const result = whole.run(inputs);
        return { result, graphMs: whole.engineMs };
      },
      show:
        shown === null
          ? null
          : (inputs) => {
              const result = shown.run(inputs);
              return { result, graphMs: shown.engineMs };
            },
    };
  } catch (error) {
    if (!(error instanceof CannotCompile)) throw error;
    warn(`the step cannot be compiled and runs eagerly, in fp32: ${error.message}`);
    return eager;
  }
}
