/** Softmax regression against PyTorch in float64 (tests/fixtures/softmax_regression.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tf } from "../../../src/engine/index.js";
import { balancedSubset, complement } from "../../../src/evaluation/labelled-subset.js";
import { linearProbe } from "../../../src/evaluation/linear-probe.js";
import { SOLVERS } from "../../../src/evaluation/solvers.js";
import {
  accuracyOfLogits,
  fitLbfgs,
  fitSgd,
  softmaxLoss,
  type LinearClassifier,
} from "../../../src/evaluation/softmax-regression.js";
import { minimise } from "../../../src/optim/lbfgs.js";
import { Purpose, Stream } from "../../../src/protocol/philox.js";

interface Fixture {
  readonly count: number;
  readonly dimension: number;
  readonly classes: number;
  readonly penalty: number;
  readonly features: readonly number[];
  readonly labels: readonly number[];
  readonly point: readonly number[];
  readonly loss: number;
  readonly gradient: readonly number[];
  readonly optimum: readonly number[];
  readonly least: number;
  readonly sgdEpochs: number;
  readonly sgdRates: readonly number[];
  readonly sgd: readonly (readonly number[])[];
}

const fixture = JSON.parse(
  readFileSync(new URL("../../fixtures/softmax_regression.json", import.meta.url), "utf8"),
) as Fixture;

const data = {
  features: tf.tensor2d([...fixture.features], [fixture.count, fixture.dimension]),
  labels: tf.tensor1d([...fixture.labels], "int32"),
  classes: fixture.classes,
};

function greatestDifference(given: ArrayLike<number>, expected: readonly number[]): number {
  expect(given).toHaveLength(expected.length);
  return Math.max(...expected.map((value, index) => Math.abs(value - (given[index] ?? NaN))));
}

const flat = ({ weights, biases }: LinearClassifier) => [...weights, ...biases];

describe("softmax regression", () => {
  it("has PyTorch's loss and gradient", () => {
    const { value, gradient } = softmaxLoss(data, Float64Array.from(fixture.point), fixture.penalty);
    expect(Math.abs(value / fixture.loss - 1)).toBeLessThan(1e-6);
    expect(greatestDifference(gradient, fixture.gradient)).toBeLessThan(1e-6);
  });

  it("finds PyTorch's optimum by L-BFGS", () => {
    const classifier = fitLbfgs(data, fixture.penalty);
    expect(greatestDifference(flat(classifier), fixture.optimum)).toBeLessThan(2e-4);
    const { value } = softmaxLoss(data, Float64Array.from(flat(classifier)), fixture.penalty);
    expect(Math.abs(value / fixture.least - 1)).toBeLessThan(1e-6);
  });

  it("follows PyTorch's SGD, each of several rates as if alone", () => {
    const { sgdEpochs: epochs, sgdRates, sgd, count } = fixture;
    const before = tf.memory().numTensors;
    const fitted = fitSgd(data, sgdRates, { epochs, batchSize: count, seed: 0 });
    expect(tf.memory().numTensors).toBe(before);
    fitted.forEach((classifier, index) => {
      expect(greatestDifference(flat(classifier), sgd[index] ?? [])).toBeLessThan(1e-5);
    });
  });

  it("counts the likeliest and the five likeliest", () => {
    const logits = tf.tensor2d([
      [6, 5, 4, 3, 2, 1, 0],
      [6, 5, 4, 3, 2, 1, 0],
      [6, 5, 4, 3, 2, 1, 0],
      [0, 0, 9, 0, 0, 0, 0],
    ]);
    expect(accuracyOfLogits(logits, Int32Array.of(0, 4, 5, 2))).toEqual({ top1: 0.5, top5: 0.75 });
  });
});

describe("L-BFGS", () => {
  it("finds the minimum of an ill-conditioned quadratic in few steps", () => {
    const scales = Float64Array.from({ length: 20 }, (_, i) => 10 ** (i / 10));
    const objective = (point: Float64Array) => ({
      value: point.reduce((sum, x, i) => sum + (scales[i] ?? 0) * (x - i) ** 2, 0) / 2,
      gradient: point.map((x, i) => (scales[i] ?? 0) * (x - i)),
    });
    const { point, converged, iterations } = minimise(objective, new Float64Array(20), {
      iterations: 500,
      tolerance: 1e-8,
    });
    expect(converged).toBe(true);
    expect(iterations).toBeLessThan(200);
    point.forEach((x, i) => expect(x).toBeCloseTo(i, 6));
  });
});

describe("a subset of the labels", () => {
  const labels = Int32Array.from({ length: 1000 }, (_, i) => (i < 900 ? 0 : i < 999 ? 1 : 2));
  const counts = (chosen: Int32Array) => [0, 1, 2].map((label) => chosen.filter((at) => labels[at] === label).length);

  it("takes the share of each class, at least one, and no sample twice", () => {
    const chosen = balancedSubset(labels, 0.1, 3);
    expect(counts(chosen)).toEqual([90, 10, 1]);
    expect(new Set(chosen).size).toBe(101);
    expect([...chosen]).toEqual([...chosen].sort((a, b) => a - b));
    expect(complement(chosen, 1000)).toHaveLength(899);
  });

  it("is the seed's", () => {
    expect(balancedSubset(labels, 0.1, 3)).toEqual(balancedSubset(labels, 0.1, 3));
    expect(balancedSubset(labels, 0.1, 3)).not.toEqual(balancedSubset(labels, 0.1, 4));
    expect(counts(balancedSubset(labels, 1, 0))).toEqual([900, 99, 1]);
  });
});

describe.each(SOLVERS)("a linear probe by %s", (solver) => {
  /** Three Gaussian clouds on features whose scales differ by a factor of 10⁴. */
  function clouds(count: number, seed: number) {
    const draws = new Stream(seed, { purpose: Purpose.parameter });
    const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
    const features = Float32Array.from({ length: 2 * count }, (_, i) => {
      const label = labels[Math.floor(i / 2)] ?? 0;
      const centre = i % 2 === 0 ? Math.cos((label * 2 * Math.PI) / 3) : Math.sin((label * 2 * Math.PI) / 3);
      return (4 * centre + draws.normal()) * (i % 2 === 0 ? 100 : 0.01);
    });
    return { features, labels, dimension: 2 };
  }

  it("separates clouds, chooses on held-out samples and keeps no tensor", () => {
    const before = tf.memory().numTensors;
    const options = { solver, classes: 3, epochs: 20, seed: 0, copies: 1 };
    const result = linearProbe(clouds(600, 1), clouds(300, 2), options);
    expect(result.top1).toBeGreaterThan(0.97);
    expect(result.top5).toBe(1);
    expect(result.candidates.map(({ value }) => value)).toContain(result.chosen);
    expect(tf.memory().numTensors).toBe(before);
  });

  it("does without held-out samples where a class has but one", () => {
    const one = { ...clouds(3, 1), labels: Int32Array.of(0, 1, 2) };
    const { candidates, top1 } = linearProbe(one, clouds(30, 2), {
      solver,
      classes: 3,
      epochs: 20,
      seed: 0,
      copies: 1,
    });
    expect(candidates.every(({ heldOut }) => heldOut === null)).toBe(true);
    expect(top1).toBeGreaterThan(0.8);
  });
});
