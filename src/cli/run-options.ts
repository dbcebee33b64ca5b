/** Flags that name a run's config, and the config that they resolve to. */
import type { Argv, InferredOptionTypes } from "yargs";
import { readRunConfig } from "../checkpoint/index.js";
import { ENCODERS, METHODS, OPTIMIZERS, PRESET_NAMES, resolveConfig, type RunConfig } from "../config/index.js";
import { hasBfloat16 } from "../engine/bfloat16.js";
import { UserError } from "../protocol/errors.js";

const options = {
  preset: { type: "string", choices: PRESET_NAMES, describe: "Ready-made config to start from" },
  config: { type: "string", describe: "YAML file with some or all keys; - reads standard input", requiresArg: true },
  set: { type: "string", array: true, describe: "Set any config key: --set moco.temperature=0.2", requiresArg: true },
  data: {
    type: "string",
    describe:
      "synthetic[:classes=10,size=32,train=N,test=N], folder:PATH, cifar10:PATH, cifar100:PATH, stl10:PATH[,split=train|unlabeled|train+unlabeled], webdataset:SHARDS[,test=SHARDS], text:PATH[,text=FIELD][,label=FIELD][,test=PATH] or pairs:FILE[,query=COLUMN][,key=COLUMN][,label=COLUMN][,test=FILE]",
    requiresArg: true,
  },
  tokenizer: { type: "string", describe: "Tokenizer of texts: a tokenizer.json (Hugging Face)", requiresArg: true },
  method: {
    type: "string",
    describe: `${METHODS.filter((name) => name !== "own").join(", ")}, with the settings in which its paper differs from the preset; or a file: ./my-method.js`,
    requiresArg: true,
  },
  encoder: { type: "string", describe: `${ENCODERS.join(", ")}, or a file: ./my-encoder.js`, requiresArg: true },
  optimizer: {
    type: "string",
    choices: OPTIMIZERS,
    describe: "How gradients change the parameters, with that kind's learning rate, decay and warm-up",
  },
  "world-size": { type: "number", describe: "W, logical ranks; fixed for the run", requiresArg: true },
  batch: { type: "number", describe: "B, samples of one rank in a step; the global batch is W·B", requiresArg: true },
  epochs: { type: "number", describe: "Passes over the data", requiresArg: true, conflicts: "steps" },
  steps: { type: "number", describe: "Optimizer updates, instead of epochs", requiresArg: true },
  threads: { type: "number", describe: "Threads of each worker; part of the result", requiresArg: true },
  precision: {
    type: "string",
    choices: ["fp32", "bf16", "auto"],
    describe: "Of activations and matrix products; auto: bf16 where this machine's processor or GPU computes it",
  },
  eager: { type: "boolean", describe: "Run steps operation by operation instead of as one graph, to debug" },
  workers: {
    type: "number",
    describe: "Worker processes on this machine; never part of the result",
    requiresArg: true,
  },
  seed: { type: "number", describe: "Seed of every random draw", requiresArg: true },
} as const;

export type RunOptionName = keyof typeof options;
/** Flags that each set one config key. */
export const KEY_FLAGS = (Object.keys(options) as RunOptionName[]).filter(
  (name) => name !== "preset" && name !== "config" && name !== "set",
);
export type RunArguments = InferredOptionTypes<typeof options>;

/** Adds the named flags (all by default) to a command. */
export function withRunOptions<T>(
  yargs: Argv<T>,
  names = Object.keys(options) as RunOptionName[],
): Argv<T & RunArguments> {
  const chosen = Object.fromEntries(names.map((name) => [name, { ...options[name], group: "Config:" }]));
  return yargs.options(chosen) as unknown as Argv<T & RunArguments>;
}

/** @throws UserError where a flag is given twice, which yargs makes an array of */
export function once<T>(name: string, value: T): T {
  if (Array.isArray(value)) throw new UserError("USAGE", `--${name} is given ${value.length} times: give it once`);
  return value;
}

/** @throws UserError where it is given and no whole number from `least` on, or given twice */
export function wholeNumber<T extends number | undefined>(name: string, given: T, least = 1): T {
  const value = once(name, given);
  if (value === undefined || (Number.isInteger(value) && value >= least)) return value;
  throw new UserError("USAGE", `--${name} ${value}: give a whole number from ${least} on`);
}

/** @param name a flag with its dashes, or what the argument is @throws UserError where a path is given and empty, as by an unset shell variable, or given twice */
export function pathOf(name: string, value: string | undefined): string | undefined {
  if (once(name.replace(/^--/, ""), value) === "") throw new UserError("USAGE", `${name} is empty: name a directory`);
  return value;
}

function overrides(given: Partial<RunArguments>): Record<string, unknown> {
  const { data, tokenizer, encoder, optimizer, batch, epochs, steps, threads, workers, seed, precision, eager } = given;
  const size = given["world-size"];
  const flags = {
    data,
    tokenizer,
    encoder,
    optimizer,
    batch,
    epochs,
    steps,
    threads,
    workers,
    seed,
    precision,
    eager,
    "world-size": size,
  };
  for (const [name, value] of Object.entries(flags)) {
    once(name, value);
    if (typeof value === "number" && Number.isNaN(value)) throw new UserError("USAGE", `--${name} wants a number`);
  }
  return {
    "data.spec": data,
    "data.tokenizer": tokenizer,
    "model.encoder": encoder,
    "optimizer.kind": optimizer,
    "parallel.worldSize": size,
    "parallel.batchSize": batch,
    "parallel.threads": threads,
    "parallel.workers": workers,
    // The flag for one length takes back the other's.
    "schedule.steps": steps ?? (epochs === undefined ? undefined : null),
    "schedule.epochs": epochs,
    "engine.mode": eager === undefined ? undefined : eager ? "eager" : "compiled",
    // Eager execution knows fp32 alone.
    "engine.precision": precision === "auto" ? (eager !== true && hasBfloat16() ? "bf16" : "fp32") : precision,
    seed,
  };
}

/**
 * @param resumed run directory whose config is the starting point; null for a new run
 * @throws UserError as `resolveConfig` and `readRunConfig`
 */
export async function configOf(given: Partial<RunArguments>, resumed: string | null): Promise<RunConfig> {
  const set = given.set?.map(String);
  const sources = { method: once("method", given.method), overrides: overrides(given), set };
  if (resumed !== null) {
    if (given.preset !== undefined || given.config !== undefined) {
      throw new UserError("USAGE", "--resume takes the run's own config: leave out --preset and --config");
    }
    return resolveConfig({ ...sources, base: await readRunConfig(resumed) });
  }
  return resolveConfig({ ...sources, preset: once("preset", given.preset), file: once("config", given.config) });
}

/** Flags that `train` and `coordinator` share. */
export function withRunDirectory<T>(yargs: Argv<T>) {
  return yargs
    .option("out", { type: "string", requiresArg: true, describe: "Run directory: config, checkpoints, events, logs" })
    .option("resume", { type: "boolean", default: false, describe: "Go on from the latest whole checkpoint in --out" })
    .option("init", {
      type: "string",
      requiresArg: true,
      describe: "Begin with the backbone in this .safetensors: of torchvision, timm, MoCo or tandem export",
    })
    .option("stop-after", {
      type: "number",
      requiresArg: true,
      describe: "Stop in order after this step, as SIGTERM would; the learning rate still follows the whole run",
    });
}

/** @throws UserError where it is no step */
export function stopAfterOf(given: { readonly "stop-after": number | undefined }): number | undefined {
  const step = once("stop-after", given["stop-after"]);
  if (step === undefined || (Number.isInteger(step) && step > 0)) return step;
  throw new UserError("USAGE", `--stop-after ${step}: give the number of a step, from 1 on`);
}
