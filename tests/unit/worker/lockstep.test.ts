/**
 * Ranks that wait for each other. Batch norm over the global batch: W ranks in lockstep compute what one rank computes that has the whole batch, in loss, keys, statistics
 * and gradients, whatever the method.
 */
import { describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { queueRowLength, usesExchange, usesLabels, usesQueue } from "../../../src/config/derived.js";
import { methodDefaults } from "../../../src/config/methods.js";
import type { RunConfig } from "../../../src/config/schema.js";
import { Loader, openRunDataset, viewReader } from "../../../src/data/index.js";
import { compile, tf, type Scalar, type Tensor, type Tensor1D } from "../../../src/engine/index.js";
import { encoderOf, initialParameters } from "../../../src/models/index.js";
import { KeyQueue, objectiveOf, withLabels } from "../../../src/objectives/index.js";
import { Lockstep } from "../../../worker/lockstep.js";
import { lockstepFunction, type LockstepInputs, type RankResult } from "../../../worker/rank-step.js";
import { differenceOf, inLockstep } from "../../fixtures/lockstep.js";
import { sampleKind } from "../../../worker/sample-tensors.js";

const [RANKS, BATCH, SIZE, KEYS] = [4, 4, 16, 32];

async function configOf(overrides: Record<string, unknown>, worldSize: number): Promise<RunConfig> {
  const small = { "data.imageSize": SIZE, "data.decodeSize": SIZE, "moco.queueSize": KEYS };
  const ranks = { "parallel.worldSize": worldSize, "parallel.batchSize": (RANKS * BATCH) / worldSize };
  const data = { "data.spec": `synthetic:size=${String(SIZE)},train=32,test=0` };
  const encoder = {
    "model.encoder": "resnet-tiny",
    "model.hiddenDim": 32,
    "moco.shuffle": "none",
    "model.syncBatchNorm": true,
  };
  return resolveConfig({ preset: "cifar10", overrides: { ...small, ...ranks, ...data, ...encoder, ...overrides } });
}

/** The step of W ranks, and what each begins with. */
async function ranksOf(overrides: Record<string, unknown>, worldSize: number) {
  const config = await configOf(overrides, worldSize);
  const encoder = await encoderOf(config);
  const parameters = (seed: number) => {
    const values = initialParameters(encoder.layout, seed);
    return encoder.layout.parameters.map(({ offset, size, shape }) =>
      tf.tensor(values.slice(offset, offset + size), [...shape]),
    );
  };
  const dimension = config.model.embeddingDim;
  const keys = tf.tensor2d(KeyQueue.random(KEYS, dimension, 0).keys, [KEYS, dimension]);
  const classes = tf.tensor1d(Float32Array.from({ length: KEYS }, (_, i) => i % 10));
  const dataset = await openRunDataset(config.data.spec, config);
  const loader = new Loader(
    viewReader(dataset, config, () => undefined),
    config,
  );
  const batches = await Promise.all(Array.from({ length: worldSize }, (_, rank) => loader.take(0, rank)));
  const inputs = batches.map((batch, rank): LockstepInputs => {
    return {
      query: parameters(1),
      key: parameters(2),
      samples: sampleKind(config).of(batch),
      labels: usesLabels(config) ? tf.tensor1d(Float32Array.from(batch.labels)) : null,
      queue: !usesQueue(config) ? null : queueRowLength(config) > dimension ? withLabels(keys, classes) : keys,
      keyShuffle: null,
      table: tf.scalar(0, "int32"),
      own: tf.tensor1d(Array.from({ length: worldSize }, (__, other) => (other === rank ? 1 : 0))),
    };
  });
  const function_ = lockstepFunction(config, encoder, await objectiveOf(config));
  const options = { precision: "fp32", identity: JSON.stringify({ overrides, worldSize }), cache: null } as const;
  const [example] = inputs as [LockstepInputs];
  return { config, inputs, step: await compile(function_, example, options) };
}

async function lockstepOf(overrides: Record<string, unknown>, worldSize: number): Promise<RankResult[]> {
  const { config, inputs, step } = await ranksOf(overrides, worldSize);
  if (worldSize === 1 && !usesExchange(config)) return inputs.map((input) => step.run(input));
  return inLockstep(
    inputs.map((input) => step.begin(input)),
    step.rounds,
  );
}

describe.each([
  ["MoCo v2", {}],
  ["SimCLR", methodDefaults("simclr")],
  ["SupCon", methodDefaults("supcon")],
  ["SupCon with a queue", { ...methodDefaults("supcon-queue"), "moco.shuffle": "none" }],
  ["MoCo v3", { ...methodDefaults("moco-v3"), "model.hiddenDim": 32 }],
])("batch norm of the global batch in %s", (_, overrides) => {
  it("is what one rank computes with all samples", async () => {
    const [many, [one]] = await Promise.all([lockstepOf(overrides, RANKS), lockstepOf(overrides, 1)]);
    if (one === undefined) throw new Error("no rank has run");
    const mean = (of: (result: RankResult) => Tensor) => tf.div(tf.addN(many.map(of)), RANKS);
    expect(
      differenceOf(
        mean(({ loss }): Scalar => loss),
        one.loss,
      ),
    ).toBeLessThan(1e-4);
    const whole = tf.concat(one.gradients.map((gradient) => tf.reshape(gradient, [-1])));
    one.gradients.forEach((gradient, index) => {
      const mine = mean(({ gradients }) => gradients[index]);
      // Batch norm behind it takes a shift away: what is left of its gradient is rounding.
      const isRounding = differenceOf(tf.zerosLike(gradient), gradient, whole) < 1e-6;
      expect(differenceOf(mine, gradient, isRounding ? whole : gradient), String(index)).toBeLessThan(5e-3);
    });
    // A value within rounding of 0 may pass a ReLU in one and not in the other.
    const joined = tf.concat(
      one.gradients.map((__, index) =>
        tf.reshape(
          mean(({ gradients }) => gradients[index]),
          [-1],
        ),
      ),
    );
    expect(differenceOf(joined, whole)).toBeLessThan(1e-3);
    const statistics = ({ queryStatistics, keyStatistics }: RankResult): Tensor1D[] => [
      ...queryStatistics,
      ...keyStatistics,
    ];
    for (const result of many)
      statistics(result).forEach((value, index) => {
        const expected = statistics(one)[index];
        // Means of what is centred already are rounding.
        expect(differenceOf(value, expected, tf.maximum(tf.abs(expected), 1e-2))).toBeLessThan(1e-4);
      });
    if (one.rows !== null)
      expect(differenceOf(tf.concat(many.map(({ rows }) => rows as Tensor)), one.rows)).toBeLessThan(1e-4);
  }, 120_000);
});

it.each([
  [1, 8],
  [2, 6],
  [4, 4],
])(
  "ranks of which %i stand at once begin %i times in all, and give the same",
  async (most, expected) => {
    const { inputs, step } = await ranksOf({ ...methodDefaults("simclr"), "model.syncBatchNorm": false }, RANKS);
    const lockstep = new Lockstep(step, most);
    let begun = 0;
    const begin = (rank: number) => () => {
      begun++;
      // It disposes of what is the rank's own.
      const { samples, own, ...shared } = inputs[rank];
      const copies = Object.entries(samples).map(([name, value]) => [name, value === null ? null : tf.clone(value)]);
      return { ...shared, own: tf.clone(own), samples: Object.fromEntries(copies) as typeof samples };
    };
    const places = inputs.map((_, rank) => rank);
    const before = tf.memory().numTensors;
    const shown = places.map((rank) => lockstep.show({ step: 0, rank, round: 0 }, begin(rank)));
    const block = new Float32Array(shown.flatMap((values) => [...values]));
    lockstep.take(0, 0, block);
    const results = places.map((rank) => lockstep.finish({ step: 0, rank, round: 1 }, begin(rank)).result);
    expect(begun).toBe(expected);
    const undisturbed = inLockstep(
      inputs.map((input) => step.begin(input)),
      step.rounds,
    );
    results.forEach(({ gradients }, rank) => {
      gradients.forEach((gradient, index) => {
        expect(gradient.dataSync()).toEqual(undisturbed[rank].gradients[index].dataSync());
      });
    });
    tf.dispose([results, undisturbed] as never);
    expect(tf.memory().numTensors).toBe(before);
  },
  120_000,
);
