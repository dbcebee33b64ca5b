import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import {
  checkAgainstDataset,
  conflictingKeys,
  CONFIG_KEYS,
  PRESET_NAMES,
  PRESETS,
  printConfig,
  readWholeConfig,
  resolveConfig,
  runLength,
  type RunConfig,
} from "../../../src/config/index.js";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-config-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function file(text: string): string {
  const path = join(folder, "run.yaml");
  writeFileSync(path, text);
  return path;
}

describe("the run config", () => {
  it("carries the published recipes", () => {
    const { cifar10, imagenet } = PRESETS;
    expect(cifar10).toMatchObject({
      model: { encoder: "resnet18", stem: "3x3", embeddingDim: 128 },
      moco: { queueSize: 4096, keyMomentum: 0.99, temperature: 0.1 },
      optimizer: { learningRate: 0.06, weightDecay: 5e-4 },
      parallel: { worldSize: 8, batchSize: 64 },
      schedule: { epochs: 200 },
    });
    expect(imagenet).toMatchObject({
      model: { encoder: "resnet50", stem: "imagenet" },
      moco: { queueSize: 65_536, keyMomentum: 0.999, temperature: 0.2 },
      optimizer: { learningRate: 0.03, weightDecay: 1e-4 },
      parallel: { worldSize: 8, batchSize: 32 },
      schedule: { epochs: 200 },
    });
  });

  it("lets the file win over the preset, flags over the file, and --set over all", async () => {
    const path = file("preset: cifar10\nmoco:\n  temperature: 0.3\n  keyMomentum: 0.9\nseed: 1\n");
    const config = await resolveConfig({
      file: path,
      overrides: { seed: 2, "moco.keyMomentum": 0.8 },
      set: ["seed=3"],
    });
    expect(config.moco).toEqual({
      queueSize: 4096,
      temperature: 0.3,
      keyMomentum: 0.8,
      keyMomentumSchedule: "constant",
      shuffle: "within-rank",
    });
    expect(config.seed).toBe(3);
  });

  it("names a preset of the command line over the file's", async () => {
    const config = await resolveConfig({ preset: "imagenet", file: file("preset: cifar10\n") });
    expect(config.model.encoder).toBe("resnet50");
  });

  it.each(PRESET_NAMES)("prints preset %s with a comment for every key, and reads it back", async (name) => {
    const text = printConfig(PRESETS[name]);
    expect(parse(text)).toEqual(PRESETS[name]);
    expect(await readWholeConfig(file(text))).toEqual(PRESETS[name]);
    for (const { name: key, description } of CONFIG_KEYS) {
      expect(description === "" || text.includes(description), key).toBe(true);
    }
  });

  it.each([
    ["temprature: 1", "unknown config key temprature: did you mean moco.temperature?"],
    ["moco:\n  momentum: 1", "unknown config key moco.momentum: did you mean"],
    ["moco:\n  temperature: hot", 'moco.temperature = "hot": expected number'],
    ["moco:\n  temperature: -1", "moco.temperature = -1: too small"],
    ["seed: 1.5", "seed = 1.5: expected int"],
    [
      "model:\n  encoder: resnet19",
      'model.encoder = "resnet19": there is no such encoder (resnet-tiny, resnet18, resnet34, ',
    ],
    ["model:\n  encoder: vit-tiny\n  patchSize: 5", "model.patchSize = 5 does not divide data.imageSize = 32"],
    ["moco: 5", "moco is a group of keys: set one of them, e.g. moco.queueSize"],
    ["moco:\n  queueSize: 127", "moco.queueSize = 127 is smaller than the global batch of 128"],
    ["model: { syncBatchNorm: true, bnSplits: 2 }", "model.bnSplits = 2 does not go with model.syncBatchNorm = true"],
    [
      "model: { syncBatchNorm: true }\nmoco: { shuffle: across-ranks }",
      "moco.shuffle = across-ranks does not go with model.syncBatchNorm",
    ],
    [
      "model: { syncBatchNorm: true }\nengine: { mode: eager }",
      "model.syncBatchNorm = true needs engine.mode = compiled",
    ],
    ["model:\n  bnSplits: 3", "model.bnSplits = 3 does not cut parallel.batchSize = 64"],
    ["augmentation:\n  crop:\n    minScale: 1\n    maxScale: 0.5", "augmentation.crop.minScale = 1 is above maxScale"],
    ["membership:\n  deadAfterMs: 999", "membership.deadAfterMs = 999 leaves no room"],
    ["membership:\n  heartbeatMs: 49", "membership.heartbeatMs = 49: too small"],
    ["membership:\n  heartbeatMs: 600001", "membership.heartbeatMs = 600001: too big"],
    ["membership:\n  deadAfterMs: 199", "membership.deadAfterMs = 199: too small"],
    ["membership:\n  deadAfterMs: 3600001", "membership.deadAfterMs = 3600001: too big"],
    ["method: simclr\nmoco:\n  shuffle: across-ranks", "moco.shuffle = across-ranks does nothing for method simclr"],
    ["model:\n  predictor: true", "model.predictor = true does not go with method moco-v2"],
    [
      "method: moco-v9",
      "there is no method moco-v9: choose one of moco-v1, moco-v2, moco-v3, simclr, supcon, supcon-queue",
    ],
    ["optimizer:\n  beta1: 0.9", "optimizer.beta1 = 0.9 does nothing for optimizer.kind = sgd: set it to null"],
    ["optimizer:\n  trustCoefficient: 1", "choose a kind that has it (lars)"],
    [
      "optimizer:\n  kind: adamw\n  momentum: 0.9",
      "optimizer.momentum = 0.9 does nothing for optimizer.kind = adamw: set it to null, or choose a kind that has it (sgd, lars)",
    ],
    [
      "optimizer:\n  kind: adamw\n  beta2: null",
      "optimizer.kind = adamw needs optimizer.beta2, which is null: give it a number",
    ],
    ["optimizer:\n  kind: adam", 'optimizer.kind = "adam": expected one of "sgd"|"lars"|"adamw"'],
    ["optimizer:\n  clipNorm: 0", "optimizer.clipNorm = 0: too small"],
    ["preset: cifar", "there is no preset cifar: choose one of quickstart, cifar10, imagenet"],
    ["a: [", "is no YAML"],
    ["just text", "holds no keys"],
  ])("refuses %j in one line that names it", async (text, message) => {
    const error = await resolveConfig({ file: file(text) }).catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ name: "UserError" });
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  });

  it("refuses a --set that is no assignment, and a file that is not there", async () => {
    await expect(resolveConfig({ set: ["seed"] })).rejects.toThrow("--set seed: write it as key=value");
    await expect(resolveConfig({ file: join(folder, "none.yaml") })).rejects.toThrow("cannot read the config file");
  });

  it("lays a method's settings over the preset, under the file that names it, and over one that does not", async () => {
    const shown = ({ method, model, moco }: RunConfig) => [method, model.head, moco.temperature];
    expect(shown(await resolveConfig({ method: "moco-v1" }))).toEqual(["moco-v1", "linear", 0.07]);
    const path = file("method: moco-v1\nmoco:\n  temperature: 0.5");
    expect(shown(await resolveConfig({ file: path }))).toEqual(["moco-v1", "linear", 0.5]);
    expect(shown(await resolveConfig({ file: path, method: "supcon" }))).toEqual(["supcon", "mlp", 0.1]);
    expect(shown(await resolveConfig({ method: "supcon", set: ["moco.temperature=1"] }))).toEqual(["supcon", "mlp", 1]);
  });

  it("starts another kind of optimizer from that kind's numbers, under whatever the config says itself", async () => {
    const path = file("preset: cifar10\noptimizer:\n  kind: lars\n  weightDecay: 0.5\n");
    const { optimizer } = await resolveConfig({ file: path, overrides: { "parallel.batchSize": 128 } });
    expect(optimizer).toMatchObject({ kind: "lars", momentum: 0.9, trustCoefficient: 0.001, beta1: null });
    // 0.3 for each 256 of the global batch, 8 × 128
    expect(optimizer).toMatchObject({ learningRate: 1.2, weightDecay: 0.5, warmupEpochs: 10 });
    const adamw = await resolveConfig({ file: path, set: ["optimizer.kind=adamw"] });
    expect(adamw.optimizer).toMatchObject({ kind: "adamw", momentum: null, trustCoefficient: null, beta1: 0.9 });
    // The file's decay was LARS's.
    expect(adamw.optimizer.weightDecay).toBe(0.1);
    const again = await resolveConfig({ base: adamw, overrides: { "parallel.batchSize": 64 } });
    expect(again.optimizer).toEqual(adamw.optimizer);
    expect((await resolveConfig({ base: adamw, set: ["optimizer.kind=sgd"] })).optimizer).toMatchObject({
      ...{ kind: "sgd", learningRate: 0.06, momentum: 0.9, beta1: null, epsilon: null },
    });
    const whole = file(printConfig(PRESETS.cifar10));
    const flags = { overrides: { "optimizer.kind": "adamw" }, set: ["optimizer.weightDecay=0.2"] };
    expect((await resolveConfig({ file: whole, ...flags })).optimizer).toMatchObject({
      learningRate: 0.001,
      weightDecay: 0.2,
    });
  });

  it("refuses a method that learns from labels where there are none", async () => {
    const config = await resolveConfig({ method: "supcon" });
    expect(() => checkAgainstDataset(config, { length: 128, unlabelled: 0 })).not.toThrow();
    expect(() => checkAgainstDataset(config, { length: 128, unlabelled: 128 })).toThrow(
      "method supcon learns from labels",
    );
    const stl10 = { ...config, data: { ...config.data, spec: "stl10:data" } };
    expect(() => checkAgainstDataset(stl10, { length: 300, unlabelled: 150 })).toThrow(
      "150 of the 300 training samples of stl10:data have none: take split=train",
    );
    const pairs = { ...config, data: { ...config.data, spec: "pairs:a.csv" } };
    expect(() => checkAgainstDataset(pairs, { length: 128, unlabelled: 128 })).toThrow(
      "give its pairs a column of labels",
    );
  });

  it("takes a queue of exactly one global batch, and a data set of exactly one", async () => {
    const config = await resolveConfig({ set: ["moco.queueSize=128"] });
    expect(() => checkAgainstDataset(config, { length: 128, unlabelled: 128 })).not.toThrow();
    expect(() => checkAgainstDataset(config, { length: 127, unlabelled: 127 })).toThrow("global batch of 128");
  });

  it("drops the last partial global batch of an epoch", () => {
    expect(runLength(PRESETS.quickstart, 300)).toMatchObject({ globalBatch: 128, stepsPerEpoch: 2 });
  });

  it("knows which keys may change when a run is resumed", async () => {
    const before = PRESETS.quickstart;
    const moved = await resolveConfig({ base: before, overrides: { "data.spec": "synthetic", "parallel.workers": 9 } });
    expect(conflictingKeys(before, moved)).toEqual([]);
    const other = await resolveConfig({ base: before, overrides: { "parallel.threads": 2 } });
    expect(conflictingKeys(before, other)).toEqual([{ key: "parallel.threads", stored: "1", given: "2" }]);
  });
});
