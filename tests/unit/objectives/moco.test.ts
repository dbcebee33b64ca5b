import { describe, expect, it } from "vitest";
import { tf, type Tensor, type Tensor4D } from "../../../src/engine/index.js";
import { OWN_BATCH, initialParameters, resnet, trainingNorm } from "../../../src/models/index.js";
import { forwardContext, infoNce, moco, normalise, type StepInput } from "../../../src/objectives/index.js";

const encoder = resnet({ encoder: "resnet-tiny", stem: "3x3", head: "mlp", embeddingDim: 8 });
const parameters = (seed: number): Tensor[] => {
  const values = initialParameters(encoder.layout, seed);
  return encoder.layout.parameters.map(({ offset, size, shape }) =>
    tf.tensor(values.slice(offset, offset + size), [...shape]),
  );
};
const views = (seed: number): Tensor4D => tf.randomNormal([8, 8, 8, 3], 0, 1, "float32", seed);
const queue = normalise(tf.randomNormal([16, 8], 0, 1, "float32", 5));
const input = {
  encoder,
  query: parameters(1),
  key: parameters(2),
  queryViews: views(3),
  keyViews: views(4),
  queue,
  labels: null,
  exchanged: null,
  temperature: 0.2,
};
const keysOf = (more: Pick<StepInput, "batchNorm" | "keyShuffle">) =>
  (moco(0.2).step({ ...input, ...more }).keys ?? expect.fail("no keys")).arraySync();

describe("InfoNCE", () => {
  it("is −log of the positive's share, by hand", () => {
    const queries = tf.tensor2d([1, 0], [1, 2]);
    const keys = tf.tensor2d([0.6, 0.8], [1, 2]);
    const queue = tf.tensor2d([0, 1, -1, 0], [2, 2]);
    const { loss } = infoNce(queries, keys, queue, 0.5);
    const [positive, first, second] = [0.6 / 0.5, 0, -1 / 0.5].map(Math.exp);
    expect(loss.dataSync()[0]).toBeCloseTo(-Math.log(positive / (positive + first + second)), 5);
  });

  it("gives keys and rows of unit length", () => {
    const rows = normalise(tf.tensor2d([3, 4, 0, 0], [2, 2])).arraySync();
    expect(rows[0][0]).toBeCloseTo(0.6, 6);
    expect(rows[1]).toEqual([0, 0]);
  });
});

describe("shuffling batch norm within a rank", () => {
  const order = [5, 0, 7, 2, 1, 6, 3, 4];
  const inverse = order.map((_, position) => order.indexOf(position));
  const shuffle = { order: tf.tensor1d(order, "int32"), inverse: tf.tensor1d(inverse, "int32") };

  it("normalises the groups of the shuffled key batch apart, and returns the keys in the queries' order", () => {
    const keys = keysOf({ batchNorm: { splits: 2, ranks: 1 }, keyShuffle: shuffle });
    const context = forwardContext(
      encoder,
      input.key,
      trainingNorm(OWN_BATCH, () => undefined),
    );
    const expected = new Map<number, number[]>();
    for (const group of [order.slice(0, 4), order.slice(4)]) {
      const shown = tf.gather(input.keyViews, tf.tensor1d(group, "int32"));
      const encoded = normalise(encoder.project(context, encoder.features(context, shown))).arraySync();
      group.forEach((sample, row) => expected.set(sample, encoded[row]));
    }
    keys.forEach((key, sample) => {
      key.forEach((value, i) => expect(value).toBeCloseTo(expected.get(sample)?.[i] ?? NaN, 5));
    });
  });

  it("changes the keys, and nothing where batch norm has one group", () => {
    const plain = keysOf({ batchNorm: OWN_BATCH, keyShuffle: null });
    const split = keysOf({ batchNorm: { splits: 2, ranks: 1 }, keyShuffle: shuffle });
    const whole = keysOf({ batchNorm: OWN_BATCH, keyShuffle: shuffle });
    expect(Math.abs(plain[0][0] - split[0][0])).toBeGreaterThan(1e-3);
    expect(whole[0][0]).toBeCloseTo(plain[0][0], 4);
  });
});
