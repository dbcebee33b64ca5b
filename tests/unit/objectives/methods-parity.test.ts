/**
 * One step of each method over W ranks that show each other embeddings, against PyTorch in float64 with the whole batch in one
 * graph (tests/fixtures/methods_parity.py made the numbers).
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { PRESETS } from "../../../src/config/presets.js";
import { inverseOf } from "../../../src/data/permutation.js";
import { tf, type Tensor, type Tensor4D } from "../../../src/engine/index.js";
import { OWN_BATCH, resnet } from "../../../src/models/index.js";
import {
  normalise,
  objectiveOf,
  type Exchanged,
  type Objective,
  type ShowInput,
  type StepResult,
} from "../../../src/objectives/index.js";
import { parametersDrawn, relativeError, TOLERANCE, uniform, type Sample } from "../../fixtures/drawn.js";

interface Fixture {
  readonly batch: number;
  readonly side: number;
  readonly dimension: number;
  readonly hidden: number;
  readonly queue: number;
  readonly cases: readonly {
    /** which of the script's draws it is */
    readonly draw: number;
    readonly method: "simclr" | "supcon" | "moco-v3" | "moco-v2";
    readonly ranks: number;
    readonly temperature: number;
    readonly form: "out" | "in";
    readonly labels: number[];
    /** which sample's key view stands at each place when shuffling BN across the ranks */
    readonly order: number[];
    readonly loss: number;
    readonly gradients: Readonly<Record<string, Sample>>;
  }[];
}

const path = new URL("../../fixtures/methods_parity.json", import.meta.url);
const { batch, side, dimension, hidden, queue: queueSize, cases } = JSON.parse(readFileSync(path, "utf8")) as Fixture;

describe.each(cases)("$method (L_$form) over $ranks ranks agrees with one device", (given) => {
  const { method, ranks, temperature, form } = given;
  const streams = 10_000 * (given.draw + 1);
  const isV3 = method === "moco-v3";
  const encoder = resnet({
    encoder: "resnet-tiny",
    stem: "3x3",
    head: isV3 ? "mlp-bn" : "mlp",
    predictor: isV3,
    hiddenDim: hidden,
    embeddingDim: dimension,
  });
  const views = (stream: number) => {
    const values = uniform(streams + stream, ranks * batch * side * side * 3, -2, 2);
    return tf.tensor4d(values, [ranks * batch, side, side, 3]);
  };
  const rowsOf = (whole: Tensor4D, rank: number): Tensor4D =>
    tf.slice(whole, [rank * batch, 0, 0, 0], [batch, side, side, 3]);
  const labelsOf = (rank: number) => tf.tensor1d(given.labels.slice(rank * batch, (rank + 1) * batch), "float32");
  const inputs = (first: Tensor4D, second: Tensor4D): ShowInput[] => {
    const query = parametersDrawn(encoder.layout, streams + 1000);
    const key = parametersDrawn(encoder.layout, streams + 2000);
    return Array.from({ length: ranks }, (_, rank) => {
      const [queryViews, keyViews] = [rowsOf(first, rank), rowsOf(second, rank)];
      const labels = method === "supcon" ? labelsOf(rank) : null;
      return { encoder, query, key, queryViews, keyViews, labels, batchNorm: OWN_BATCH, temperature };
    });
  };

  const queue = normalise(tf.tensor2d(uniform(streams + 3, queueSize * dimension, -1, 1), [queueSize, dimension]));
  const { moco, ownMethod } = PRESETS.cifar10;
  const step = (objective: Objective, input: ShowInput, exchanged: Exchanged): StepResult =>
    objective.step({ ...input, exchanged, keyShuffle: null, queue: method === "moco-v2" ? queue : null });

  const results: StepResult[] = [];
  beforeAll(async () => {
    const run = { method, moco: { ...moco, temperature }, supcon: { form }, ownMethod };
    const objective = await objectiveOf(run);
    const [first, second] = [views(1), views(2)];
    const shuffled = tf.gather(second, method === "moco-v2" ? given.order : given.order.map((_, at) => at));
    const block = tf.concat(inputs(first, shuffled).map((input) => objective.show(input).embeddings));
    const places = inverseOf(Int32Array.from(given.order));
    inputs(first, second).forEach((input, rank) => {
      const own = tf.tensor1d(Array.from({ length: ranks }, (_, other) => (other === rank ? 1 : 0)));
      const rows = method === "moco-v2" ? tf.tensor1d(places.slice(rank * batch, (rank + 1) * batch), "int32") : null;
      results.push(step(objective, input, { block, own, rows }));
    });
  });

  it("in the loss: its mean over the ranks", () => {
    const loss = results.reduce((sum, result) => sum + result.loss.dataSync()[0], 0) / ranks;
    expect(Math.abs(loss / given.loss - 1)).toBeLessThan(TOLERANCE);
  });

  it("in every gradient: its mean over the ranks", () => {
    const names = encoder.layout.parameters.map(({ name }) => name);
    expect(names).toEqual(Object.keys(given.gradients));
    const whole = Math.hypot(...Object.values(given.gradients).map(({ norm }) => norm));
    const errors = names.map((name, index) => {
      const mean: Tensor = tf.div(tf.addN(results.map(({ gradients }) => gradients[index])), ranks);
      const expected = given.gradients[name];
      // Batch norm behind it takes a shift away: what is left of its gradient is rounding.
      if (expected.norm < 1e-9 * whole) return { name, error: (tf.norm(mean).dataSync()[0] ?? NaN) / whole };
      return { name, error: relativeError(mean, expected) };
    });
    expect(errors.filter(({ error }) => !(error < TOLERANCE))).toEqual([]);
  });
});
