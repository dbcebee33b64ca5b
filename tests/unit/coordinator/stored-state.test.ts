/** A run that is stored and resumed goes on to the same bits, whatever its optimizer keeps. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import { fromGroups, toGroups } from "../../../coordinator/stored-state.js";
import { readCheckpoint, writeCheckpoint, type CheckpointState } from "../../../src/checkpoint/index.js";
import { resolveConfig, type RunConfig } from "../../../src/config/index.js";
import { OPTIMIZERS } from "../../../src/config/schema.js";
import { optimizerVectors, updateRule } from "../../../src/config/optimizer.js";
import { architectureOf } from "../../../src/models/architecture.js";
import { gradientLength } from "../../../src/models/exchange.js";
import { initialBuffers, initialParameters } from "../../../src/models/parameters.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { layerSlices } from "../../../src/models/treatment.js";

const RATES = { learningRate: 0.01, keyMomentum: 0.9, clip: 1 };
const SKIPPED = 1;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tandem-stored-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function configWith(kind: string): Promise<RunConfig> {
  const set = ["model.embeddingDim=8", "moco.queueSize=128"];
  return resolveConfig({ overrides: { "optimizer.kind": kind, "model.head": "linear" }, set });
}

const { layout } = await architectureOf(await configWith("sgd"));

function started(config: RunConfig, state?: TrainingState): Aggregator {
  const { optimizer } = config;
  const theta = initialParameters(layout, 1);
  const buffers = initialBuffers(layout);
  const options = {
    ...{ layout, buckets: parameterBuckets(layout, 50_000), worldSize: 1, rule: updateRule(optimizer) },
    layers: layerSlices(layout, optimizer),
    gradients: "fp32" as const,
  };
  return new Aggregator(
    options,
    state ?? {
      ...{ version: 0, updates: 0, query: theta, key: theta, queryBuffers: buffers, keyBuffers: buffers },
      optimizer: optimizerVectors(optimizer.kind).map(() => new Float32Array(layout.parameterCount)),
    },
  );
}

function train(aggregator: Aggregator, to: number): void {
  const length = gradientLength(layout);
  for (let { version: step } = aggregator.state; step < to; step++) {
    aggregator.accept(step, { level: 0, index: 0 }, (target) => {
      for (let i = 0; i < length; i++) target[i] = Math.sin(i * 0.37 + step) / 10;
    });
    if (step === SKIPPED) aggregator.skip();
    else Array.from(aggregator.apply(RATES));
  }
}

async function stored(config: RunConfig, aggregator: Aggregator): Promise<CheckpointState> {
  const { state } = aggregator;
  const queue = new Float32Array(config.moco.queueSize * config.model.embeddingDim);
  const meta = {
    ...{ runId: "run", config, manifestHash: "", engineFingerprint: null, architecture: config.model.encoder },
    ...{ reproducible: true, knn: null },
  };
  const checkpoint = { step: state.version, meta, groups: toGroups(layout, state, queue, config) };
  return readCheckpoint(await writeCheckpoint(mkdtempSync(join(folder, "run-")), checkpoint, { keep: 1 }));
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

describe("a checkpoint", () => {
  it.each(OPTIMIZERS)("holds all that %s goes on from, past a step that was skipped", async (kind) => {
    const config = await configWith(kind);
    const undisturbed = started(config);
    train(undisturbed, 5);

    const first = started(config);
    train(first, 3);
    const checkpoint = await stored(config, first);
    const names = checkpoint.groups.optimizer.map(({ name }) => name);
    expect(names).toContain(kind === "adamw" ? "exp_avg_sq.layer2.0.conv1.weight" : "momentum.layer2.0.conv1.weight");
    const { state } = fromGroups(layout, checkpoint, config, "it");
    expect([state.version, state.updates]).toEqual([3, 2]);
    const second = started(config, state);
    train(second, 5);

    const bits = ({ state: { query, key, optimizer, queryBuffers, keyBuffers } }: Aggregator) =>
      Buffer.concat([query, key, ...optimizer, queryBuffers, keyBuffers].map(bytesOf));
    expect(bits(second).equals(bits(undisturbed))).toBe(true);
    expect(second.state.updates).toBe(4);
  });

  it("counts the updates made for AdamW's bias correction, not the steps", async () => {
    const config = await configWith("adamw");
    const [skipping, plain] = [started(config), started(config)];
    train(skipping, 3);
    const length = gradientLength(layout);
    for (const [step, phase] of [0, 2].entries()) {
      plain.accept(step, { level: 0, index: 0 }, (target) => {
        for (let i = 0; i < length; i++) target[i] = Math.sin(i * 0.37 + phase) / 10;
      });
      Array.from(plain.apply(RATES));
    }
    expect(bytesOf(skipping.state.query).equals(bytesOf(plain.state.query))).toBe(true);
  });

  it("of another kind of optimizer is refused, with both kinds", async () => {
    const config = await configWith("sgd");
    const checkpoint = await stored(config, started(config));
    const other = await configWith("lars");
    expect(() => fromGroups(layout, checkpoint, other, "step-0")).toThrow(
      "step-0 was made with optimizer.kind = sgd, whose state says nothing to lars: resume with sgd",
    );
  });
});
