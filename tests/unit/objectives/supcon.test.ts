import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tf, type Tensor2D } from "../../../src/engine/index.js";
import { infoNce, splitLabels, supConOfQueue, withLabels } from "../../../src/objectives/index.js";

interface Fixture {
  readonly batch: number;
  readonly dimension: number;
  readonly queueSize: number;
  readonly cases: readonly {
    readonly name: string;
    readonly labels: number[];
    readonly queueLabels: number[];
    readonly form: "out" | "in";
    readonly temperature: number;
    readonly queries: number[];
    readonly keys: number[];
    readonly queue: number[];
    readonly loss: number;
    readonly gradient: number[];
  }[];
}

const path = new URL("../../fixtures/supcon_parity.json", import.meta.url);
const { batch, dimension, queueSize, cases } = JSON.parse(readFileSync(path, "utf8")) as Fixture;
const TOLERANCE = 1e-4;

describe.each(cases)("supervised contrast L_$form, τ = $temperature, $name", (given) => {
  const { form, temperature } = given;
  const keys = tf.tensor2d(given.keys, [batch, dimension]);
  const labels = tf.tensor1d(given.labels, "float32");
  const rows = withLabels(tf.tensor2d(given.queue, [queueSize, dimension]), tf.tensor1d(given.queueLabels, "float32"));
  const queue = splitLabels(rows);
  const queries = tf.tensor2d(given.queries, [batch, dimension]);

  it("agrees with PyTorch in loss and gradients", () => {
    const { value, grad } = tf.valueAndGrad(
      (q: Tensor2D) => supConOfQueue(q, keys, labels, queue, temperature, form).loss,
    )(queries);
    expect(Math.abs(value.dataSync()[0] / given.loss - 1)).toBeLessThan(TOLERANCE);
    const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    const difference = [...grad.dataSync()].map((x, i) => x - given.gradient[i]);
    // Where everybody is a positive, L_in has no gradient at all.
    expect(norm(difference)).toBeLessThan(TOLERANCE * Math.max(norm(given.gradient), 1e-2));
  });

  it("ranks a query's own key against keys of other classes alone", () => {
    const { hardestNegative } = supConOfQueue(queries, keys, labels, queue, temperature, form);
    const similarities = tf.matMul(queries, queue.keys, false, true).arraySync() as number[][];
    [...hardestNegative.dataSync()].forEach((hardest, i) => {
      const others = similarities[i].filter((_, j) => given.queueLabels[j] !== given.labels[i]);
      if (others.length === 0) expect(hardest).toBeLessThan(-1e8);
      else expect(hardest).toBeCloseTo(Math.max(...others) / temperature, 4);
    });
  });
});

it("supervised contrast without any of a query's class in the queue is InfoNCE", () => {
  const [given] = cases.filter(({ name }) => name.includes("not been filled"));
  const tensor = (values: number[], count: number) => tf.tensor2d(values, [count, dimension]);
  const [queries, keys, queue] = [
    tensor(given.queries, batch),
    tensor(given.keys, batch),
    tensor(given.queue, queueSize),
  ];
  const labelled = { keys: queue, labels: tf.tensor1d(given.queueLabels, "float32") };
  const labels = tf.tensor1d(given.labels, "float32");
  for (const form of ["out", "in"] as const) {
    const { loss } = supConOfQueue(queries, keys, labels, labelled, 0.1, form);
    expect(loss.dataSync()[0]).toBeCloseTo(infoNce(queries, keys, queue, 0.1).loss.dataSync()[0], 5);
  }
});
