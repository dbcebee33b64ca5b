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
    expect(config.moco).toEqual({ queueSize: 4096, temperature: 0.3, keyMomentum: 0.8 });
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
    ["model:\n  encoder: resnet19", 'model.encoder = "resnet19": expected one of "resnet-tiny"|"resnet18"|"resnet50"'],
    ["moco: 5", "moco is a group of keys: set one of them, e.g. moco.queueSize"],
    ["moco:\n  queueSize: 127", "moco.queueSize = 127 is smaller than the global batch of 128"],
    ["model:\n  bnSplits: 3", "model.bnSplits = 3 does not cut parallel.batchSize = 64"],
    ["augmentation:\n  crop:\n    minScale: 1\n    maxScale: 0.5", "augmentation.crop.minScale = 1 is above maxScale"],
    ["membership:\n  deadAfterMs: 999", "membership.deadAfterMs = 999 leaves no room"],
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

  it("takes a queue of exactly one global batch, and a data set of exactly one", async () => {
    const config = await resolveConfig({ set: ["moco.queueSize=128"] });
    expect(() => checkAgainstDataset(config, 128)).not.toThrow();
    expect(() => checkAgainstDataset(config, 127)).toThrow("global batch of 128");
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
