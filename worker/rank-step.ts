/** One logical rank's part of a step as a function of tensors alone: what is compiled, and what runs eagerly. */
import type { RunConfig } from "../src/config/schema.js";
import { DRAW } from "../src/data/draws.js";
import { makeViews, viewStages } from "../src/data/views.js";
import {
  CannotCompile,
  compile,
  isKept,
  tf,
  type CompileOptions,
  type Tensor2D,
  type Tensor4D,
} from "../src/engine/index.js";
import type { Encoder } from "../src/models/index.js";
import { mocoStep, type MocoInput, type MocoResult } from "../src/objectives/index.js";

/** Everything that differs from step to step. (A type, since tfjs takes no interface for a container of tensors.) */
export type RankInputs = Pick<MocoInput, "query" | "key" | "queue" | "keyShuffle"> & {
  /** `[B, S', S', 3]` decoded images, 0 to 255 */
  readonly pixels: Tensor4D;
  /** `[B, DRAW.floats]` each: how the views are made */
  readonly drawsQuery: Tensor2D;
  readonly drawsKey: Tensor2D;
};

function rankStep(config: RunConfig, encoder: Encoder): (inputs: RankInputs) => MocoResult {
  const stages = viewStages(config.augmentation);
  const { imageSize } = config.data;
  return ({ pixels, drawsQuery, drawsKey, ...inputs }) =>
    tf.tidy(() =>
      mocoStep({
        ...inputs,
        encoder,
        queryViews: makeViews(pixels, drawsQuery, imageSize, stages),
        keyViews: makeViews(pixels, drawsKey, imageSize, stages),
        temperature: config.moco.temperature,
        bnSplits: config.model.bnSplits,
      }),
    );
}

/** Inputs of the right shapes, all zero, to record the step with. */
function exampleInputs(config: RunConfig, encoder: Encoder): RankInputs {
  const { batchSize } = config.parallel;
  const { decodeSize } = config.data;
  const parameters = () => encoder.layout.parameters.map(({ shape }) => tf.zeros([...shape]));
  const positions = () => tf.range(0, batchSize, 1, "int32");
  return {
    query: parameters(),
    key: parameters(),
    pixels: tf.zeros([batchSize, decodeSize, decodeSize, 3]),
    drawsQuery: tf.zeros([batchSize, DRAW.floats]),
    drawsKey: tf.zeros([batchSize, DRAW.floats]),
    queue: tf.zeros([config.moco.queueSize, config.model.embeddingDim]),
    keyShuffle: config.model.bnSplits === 1 ? null : { order: positions(), inverse: positions() },
  };
}

export interface PreparedStep {
  readonly mode: RunConfig["engine"]["mode"];
  /** The caller disposes of the result. `graphMs`: time within TensorFlow's graph; 0 when running eagerly */
  run(inputs: RankInputs): { readonly result: MocoResult; readonly graphMs: number };
}

function compileOptions({ engine, model, moco, augmentation, data, parallel }: RunConfig): CompileOptions {
  const identity = JSON.stringify({ model, moco, augmentation, imageSize: data.imageSize, threads: parallel.threads });
  return { precision: engine.precision, identity };
}

/** Whether the step's graph is kept on this machine, so that `prepareRankStep` need not record it. */
export async function isStepKept(config: RunConfig, encoder: Encoder): Promise<boolean> {
  const example = exampleInputs(config, encoder);
  const kept = await isKept(example, compileOptions(config));
  tf.dispose(example as never);
  return kept;
}

/** @param warn hears why the step runs eagerly although the config says compiled */
export async function prepareRankStep(
  config: RunConfig,
  encoder: Encoder,
  warn: (message: string) => void,
): Promise<PreparedStep> {
  const step = rankStep(config, encoder);
  const eager: PreparedStep = {
    mode: "eager",
    run: (inputs: RankInputs) => ({ result: step(inputs), graphMs: 0 }),
  };
  if (config.engine.mode === "eager") return eager;
  const example = exampleInputs(config, encoder);
  try {
    const compiled = await compile(step, example, compileOptions(config));
    return {
      mode: "compiled",
      run: (inputs) => {
        const result = compiled.run(inputs);
        return { result, graphMs: compiled.engineMs };
      },
    };
  } catch (error) {
    if (!(error instanceof CannotCompile)) throw error;
    warn(`the step cannot be compiled and runs eagerly, in fp32: ${error.message}`);
    return eager;
  } finally {
    tf.dispose(example as never);
  }
}
