/** From presets, files and flags to one checked run config; each mistake is one line with its remedy. */
import { readFile } from "node:fs/promises";
import { text as readText } from "node:stream/consumers";
import { parse as parseYaml } from "yaml";
import type { z } from "zod";
import { UserError } from "../protocol/errors.js";
import { isOwnFile, readOwnFile } from "./own-file.js";
import { holdsPairs, modalityOf, modalityOfSpec } from "./text-encoders.js";
import { readTokenizer } from "./tokenizer-file.js";
import { runLength, usesLabels, usesQueue } from "./derived.js";
import { CONFIG_KEYS, nearestKey } from "./keys.js";
import { methodDefaults } from "./methods.js";
import { describeOwnMethod } from "./own-method.js";
import { optimizerDefaults, updateRule } from "./optimizer.js";
import { PRESET_NAMES, PRESETS, type PresetName } from "./presets.js";
import { runConfigSchema, type RunConfig } from "./schema.js";

export interface ConfigSources {
  /** where to start; `quickstart` if neither this nor the file names one */
  readonly preset?: string | undefined;
  /** where to start instead of a preset: the config of a run that is resumed */
  readonly base?: RunConfig | undefined;
  /**
   * YAML file, `-` for standard input: a whole config, or some keys over a preset, which its optional key `preset` names.
   * Keys that it leaves out come from the preset.
   */
  readonly file?: string | undefined;
  /** method whose defaults are laid over all that; `undefined`: whatever those say */
  readonly method?: string | undefined;
  /** dotted keys with values, from flags */
  readonly overrides?: Readonly<Record<string, unknown>>;
  /** `key=value` with dotted keys, from `--set`; values are read as YAML */
  readonly set?: readonly string[] | undefined;
}

type Tree = { [key: string]: unknown };
/** Dotted keys and values. */
type Entries = readonly (readonly [string, unknown])[];

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function presetNamed(name: unknown): RunConfig {
  if (typeof name === "string" && Object.hasOwn(PRESETS, name)) return PRESETS[name as PresetName];
  const shown = typeof name === "string" ? name : JSON.stringify(name);
  throw new UserError("CONFIG_UNKNOWN_PRESET", `there is no preset ${shown}: choose one of ${PRESET_NAMES.join(", ")}`);
}

/** Dotted names and values of everything that is no group, and of empty groups. */
function leaves(tree: Tree, prefix = ""): [string, unknown][] {
  return Object.entries(tree).flatMap(([key, value]): [string, unknown][] =>
    isTree(value) && Object.keys(value).length > 0 ? leaves(value, `${prefix}${key}.`) : [[`${prefix}${key}`, value]],
  );
}

function assign(config: Tree, name: string, value: unknown): void {
  const known = CONFIG_KEYS.find((key) => key.name === name);
  if (known === undefined) {
    throw new UserError("CONFIG_UNKNOWN_KEY", `unknown config key ${name}: did you mean ${nearestKey(name)}?`);
  }
  if (known.isGroup) {
    if (isTree(value)) return;
    throw new UserError("CONFIG_WRONG_TYPE", `${name} is a group of keys: set one of them, e.g. ${memberOf(name)}`);
  }
  const path = name.split(".");
  const last = path.pop() as string;
  let place = config;
  for (const part of path) place = place[part] as Tree;
  place[last] = value;
}

function memberOf(group: string): string {
  return CONFIG_KEYS.find(({ name, isGroup }) => !isGroup && name.startsWith(`${group}.`))?.name ?? group;
}

async function readConfigFile(path: string): Promise<Tree> {
  const name = path === "-" ? "standard input" : path;
  let text: string;
  try {
    text = path === "-" ? await readText(process.stdin) : await readFile(path, "utf8");
  } catch (cause) {
    throw new UserError("CONFIG_FILE_MISSING", `cannot read the config file ${name}: check the path`, { cause });
  }
  let parsed: unknown;
  try {
    parsed = parseYaml(text);
  } catch (cause) {
    throw new UserError("CONFIG_FILE_INVALID", `${name} is no YAML: ${firstLine(cause)}`, { cause });
  }
  if (!isTree(parsed)) throw new UserError("CONFIG_FILE_INVALID", `${name} holds no keys: see \`tandem config\``);
  return parsed;
}

function firstLine(error: unknown): string {
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  return line.replace(/:$/, "");
}

function parseAssignment(text: string): [string, unknown] {
  const equals = text.indexOf("=");
  if (equals < 1)
    throw new UserError("CONFIG_BAD_SET", `--set ${text}: write it as key=value, e.g. --set moco.temperature=0.2`);
  return [text.slice(0, equals), parseValue(text.slice(equals + 1))];
}

/** A value as the command line gives it: a YAML scalar, so `8` is a number, `null` is null, and `cifar10:/data` is text. */
export function parseValue(text: string): unknown {
  try {
    return parseYaml(text) as unknown;
  } catch {
    return text;
  }
}

/**
 * Preset (or `base`), then the defaults of the file's method, the file, those of `method`, overrides, and `set`: the later wins.
 * Whichever changes the kind of optimizer brings that kind's defaults along.
 * @throws UserError `CONFIG_…` with one line that names the key, its value and the remedy
 */
export async function resolveConfig(sources: ConfigSources): Promise<RunConfig> {
  const fromFile = sources.file === undefined ? {} : await readConfigFile(sources.file);
  const { preset: filePreset, ...keys } = fromFile;
  const start = sources.base ?? presetNamed(sources.preset ?? filePreset ?? "quickstart");
  const layers: Entries[] = [
    keys["method"] === undefined ? [] : Object.entries(methodDefaults(keys["method"])),
    leaves(keys),
    sources.method === undefined ? [] : Object.entries(await methodNamed(sources.method)),
    Object.entries(sources.overrides ?? {}).filter(([, value]) => value !== undefined),
    (sources.set ?? []).map(parseAssignment),
  ];
  return withTokenizer(await withDigest(checkConfig(laidOver(start, withOptimizer(start, layers)))));
}

/** @param name one of `METHODS`, or a file */
async function methodNamed(name: string): Promise<Readonly<Record<string, unknown>>> {
  if (!isOwnFile(name)) return { ...methodDefaults(name), "ownMethod.file": null, "ownMethod.sha256": null };
  return { method: "own", ...Object.fromEntries(leaves({ ownMethod: await describeOwnMethod(name) })) };
}

/** A file of the user's own becomes part of the run by its digest, once and for all. */
async function withDigest(config: RunConfig): Promise<RunConfig> {
  const { model } = config;
  if (!isOwnFile(model.encoder)) return { ...config, model: { ...model, encoderSha256: null } };
  if (model.encoderSha256 !== null) return config;
  const { sha256 } = await readOwnFile(model.encoder, "encoder");
  return { ...config, model: { ...model, encoderSha256: sha256 } };
}

/** Likewise the tokenizer, and with it the number of its tokens. */
async function withTokenizer(config: RunConfig): Promise<RunConfig> {
  const { data, model } = config;
  if (modalityOf(config) === "image")
    return { ...config, data: { ...data, tokenizerSha256: null }, model: { ...model, vocabulary: null } };
  if (data.tokenizerSha256 !== null && model.vocabulary !== null) return config;
  const { sha256, vocabulary } = await readTokenizer(config);
  return {
    ...config,
    data: { ...data, tokenizerSha256: sha256 },
    model: { ...model, vocabulary: model.vocabulary ?? vocabulary },
  };
}

function laidOver(start: RunConfig, layers: readonly Entries[]): Tree {
  const config = structuredClone(start) as unknown as Tree;
  for (const [name, value] of layers.flat()) assign(config, name, value);
  return config;
}

/** Where the kind of optimizer is changed, the other kind's numbers come first: those that are there belong to the old one. */
function withOptimizer(start: RunConfig, layers: readonly Entries[]): readonly Entries[] {
  const chooser = layers.findLastIndex((layer) => layer.some(([name]) => name === "optimizer.kind"));
  if (chooser < 0) return layers;
  const before = runConfigSchema.safeParse(laidOver(start, layers.slice(0, chooser))).data;
  // The rate depends on the batch, which a later layer may still have set.
  const after = runConfigSchema.safeParse(laidOver(start, layers)).data;
  if (after === undefined || after.optimizer.kind === before?.optimizer.kind) return layers;
  const { optimizer, parallel, schedule } = after;
  const globalBatch = parallel.worldSize * parallel.batchSize;
  const defaults = optimizerDefaults(optimizer.kind, { globalBatch, epochs: schedule.epochs });
  return [...layers.slice(0, chooser), Object.entries(defaults), ...layers.slice(chooser)];
}

/** A config that leaves nothing out, such as a run directory holds. @throws UserError as `resolveConfig` */
export async function readWholeConfig(path: string): Promise<RunConfig> {
  return checkConfig(await readConfigFile(path));
}

/** @throws UserError for the first thing that is wrong */
export function checkConfig(value: unknown): RunConfig {
  const result = runConfigSchema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw issue === undefined ? new Error("zod found no issue") : typeError(issue, value);
  }
  const config = result.data;
  const problem = contradictions(config).find(({ holds }) => !holds);
  if (problem !== undefined) throw new UserError("CONFIG_CONTRADICTION", problem.message);
  updateRule(config.optimizer);
  return config;
}

function typeError(issue: z.core.$ZodIssue, value: unknown): UserError {
  const name = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    const key = [name, issue.keys[0] ?? ""].filter((part) => part !== "").join(".");
    return new UserError("CONFIG_UNKNOWN_KEY", `unknown config key ${key}: did you mean ${nearestKey(key)}?`);
  }
  const given = issue.path.reduce<unknown>((place, part) => (isTree(place) ? place[String(part)] : undefined), value);
  const description = CONFIG_KEYS.find((key) => key.name === name)?.description ?? "";
  const problem = issue.message.replace(/^Invalid (input|option): /, "").replace(/^T/, "t");
  const shown = given === undefined ? `${name} is missing` : `${name} = ${JSON.stringify(given)}`;
  return new UserError("CONFIG_WRONG_TYPE", `${shown}: ${problem}${description === "" ? "" : ` (${description})`}`);
}

function contradictions(config: RunConfig): { readonly holds: boolean; readonly message: string }[] {
  const { method, parallel, engine, moco, data, model, augmentation, membership } = config;
  const globalBatch = parallel.worldSize * parallel.batchSize;
  const { crop, blur, text } = augmentation;
  const modality = modalityOf(config);
  const others = modality === "text" ? "images" : "texts";
  return [
    {
      holds: !usesQueue(config) || moco.queueSize >= globalBatch,
      message:
        `moco.queueSize = ${String(moco.queueSize)} is smaller than the global batch of ${String(globalBatch)} ` +
        `(parallel.worldSize × parallel.batchSize): raise the first or lower the others`,
    },
    {
      holds: parallel.batchSize % model.bnSplits === 0 && parallel.batchSize >= 2 * model.bnSplits,
      message:
        `model.bnSplits = ${String(model.bnSplits)} does not cut parallel.batchSize = ${String(parallel.batchSize)} ` +
        "into equal groups of at least 2: choose a divisor",
    },
    {
      holds: !model.syncBatchNorm || model.bnSplits === 1,
      message: `model.bnSplits = ${String(model.bnSplits)} does not go with model.syncBatchNorm = true: one of the two`,
    },
    {
      holds: !model.syncBatchNorm || moco.shuffle !== "across-ranks",
      message:
        "moco.shuffle = across-ranks does not go with model.syncBatchNorm = true, which takes away what it is against: set it to none",
    },
    {
      holds: !model.syncBatchNorm || engine.mode === "compiled",
      message: "model.syncBatchNorm = true needs engine.mode = compiled: leave out --eager",
    },
    {
      holds: isOwnFile(model.encoder) || !model.encoder.startsWith("vit-") || data.imageSize % model.patchSize === 0,
      message:
        `model.patchSize = ${String(model.patchSize)} does not divide data.imageSize = ${String(data.imageSize)}: ` +
        "choose a divisor, e.g. --set model.patchSize=8",
    },
    {
      holds: moco.shuffle !== "across-ranks" || usesQueue(config),
      message: `moco.shuffle = across-ranks does nothing for method ${method}, which has no queue: set it to none`,
    },
    {
      holds: model.predictor === (method === "moco-v3"),
      message: `model.predictor = ${String(model.predictor)} does not go with method ${method}: moco-v3 alone has a prediction head`,
    },
    {
      holds: (method === "own") === (config.ownMethod.file !== null),
      message:
        method === "own"
          ? "method = own names no file: give --method ./my-method.js"
          : `ownMethod.file does not go with method ${method}: set it to null, or give --method ${config.ownMethod.file ?? ""}`,
    },
    {
      holds: engine.mode !== "synthetic" || config.evaluation.everyEpochs === 0,
      message:
        "engine.mode = synthetic computes no features to evaluate: set evaluation.everyEpochs to 0, as --set evaluation.everyEpochs=0",
    },
    {
      holds: engine.mode !== "eager" || engine.precision === "fp32",
      message: "engine.precision = bf16 needs engine.mode = compiled: leave out --eager, or take fp32",
    },
    {
      holds: crop.minScale <= crop.maxScale,
      message: `augmentation.crop.minScale = ${String(crop.minScale)} is above maxScale = ${String(crop.maxScale)}`,
    },
    {
      holds: blur.minSigma <= blur.maxSigma,
      message: `augmentation.blur.minSigma = ${String(blur.minSigma)} is above maxSigma = ${String(blur.maxSigma)}`,
    },
    {
      holds: text.spanCrop.minShare <= text.spanCrop.maxShare,
      message: `augmentation.text.spanCrop.minShare = ${String(text.spanCrop.minShare)} is above maxShare = ${String(text.spanCrop.maxShare)}`,
    },
    {
      holds: [modality, null].includes(modalityOfSpec(data.spec)),
      message:
        `data.spec = ${data.spec} holds ${others}, and model.encoder = ${model.encoder} reads ` +
        (modality === "text"
          ? "texts: name texts, --data text:PATH, or choose another encoder, e.g. --encoder resnet18"
          : "images: choose --encoder text-tiny, text-mini or text-small, or name other data"),
    },
    {
      holds: modality === "image" || data.tokenizer !== null,
      message: `model.encoder = ${model.encoder} reads tokens, and data.tokenizer is null: give --tokenizer with a tokenizer.json`,
    },
    {
      holds: membership.deadAfterMs >= 2 * membership.heartbeatMs,
      message:
        `membership.deadAfterMs = ${String(membership.deadAfterMs)} leaves no room for one missed heartbeat of ` +
        `${String(membership.heartbeatMs)} ms: make it at least twice as long`,
    },
  ];
}

function howToLabel(config: RunConfig): string {
  if (holdsPairs(config.data.spec)) return "give its pairs a column of labels";
  if (config.data.spec.startsWith("stl10:")) return "take split=train";
  return modalityOf(config) === "text" ? "give its texts labels" : "sort its images into one folder a class";
}

/**
 * @param train how many training samples there are, and how many of them without a label
 * @throws UserError `CONFIG_BATCH_TOO_LARGE` where the data set has no whole global batch, `DATA_UNLABELLED` where the method
 * learns from labels and not all samples have one
 */
export function checkAgainstDataset(
  config: RunConfig,
  train: { readonly length: number; readonly unlabelled: number },
): void {
  const { method, data } = config;
  if (usesLabels(config) && train.unlabelled > 0) {
    const [problem, remedy] =
      train.unlabelled === train.length
        ? [`${data.spec} has none`, howToLabel(config)]
        : [`${train.unlabelled} of the ${train.length} training samples of ${data.spec} have none`, howToLabel(config)];
    throw new UserError(
      "DATA_UNLABELLED",
      `method ${method} learns from labels, and ${problem}: ${remedy}, or choose --method moco-v2`,
    );
  }
  const { globalBatch, stepsPerEpoch } = runLength(config, train.length);
  if (stepsPerEpoch > 0) return;
  throw new UserError(
    "CONFIG_BATCH_TOO_LARGE",
    `the global batch of ${String(globalBatch)} (--world-size × --batch) is larger than the data set of ` +
      `${String(train.length)} training samples: lower one of the two, or use more data`,
  );
}
