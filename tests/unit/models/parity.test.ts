/** One MoCo step against PyTorch and torchvision in float64 (tests/fixtures/moco_parity.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D } from "../../../src/engine/index.js";
import {
  BATCH_NORM_MOMENTUM,
  evaluationNorm,
  initialBuffers,
  resnet,
  trainingNorm,
  type EncoderOptions,
  type ParameterLayout,
} from "../../../src/models/index.js";
import { forwardContext, mocoStep, normalise } from "../../../src/objectives/index.js";

/** The agreement that is promised, relative to the norm of what is compared. */
const TOLERANCE = 1e-4;

interface Sample {
  readonly size: number;
  readonly norm: number;
  readonly places: readonly number[];
  readonly values: readonly number[];
}

interface ParityCase {
  /** which of the script's draws it is */
  readonly draw: number;
  /** whether batch norm shifts every channel clear of 0; see the script */
  readonly shifted: boolean;
  readonly encoder: EncoderOptions["encoder"];
  readonly stem: EncoderOptions["stem"];
  readonly head: EncoderOptions["head"];
  readonly batch: number;
  readonly side: number;
  readonly dimension: number;
  readonly queue: number;
  readonly temperature: number;
  readonly loss: number;
  readonly features: Sample;
  readonly evaluatedFeatures: Sample;
  readonly keys: Sample;
  readonly gradients: Readonly<Record<string, Sample>>;
  readonly runningStatistics: Readonly<Record<string, Sample>>;
}

const cases = JSON.parse(
  readFileSync(new URL("../../fixtures/moco_parity.json", import.meta.url), "utf8"),
) as readonly ParityCase[];

/** Murmur3's finaliser over (index, stream), as the fixture's script draws. */
function uniform(stream: number, size: number, low: number, high: number): Float32Array {
  const start = Math.imul(stream, 0x9e3779b9);
  return Float32Array.from({ length: size }, (_, index) => {
    let h = (index + start) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    return low + (high - low) * (h / 2 ** 32);
  });
}

/** Stream of the signs by which `shifted` networks keep each channel's ReLUs on one side. */
const SIGNS = 77;

function parameters(layout: ParameterLayout, firstStream: number, shifted: boolean): Tensor[] {
  return layout.parameters.map(({ name, role, shape, size }, index) => {
    if (shifted && role === "norm-shift") {
      const magnitude = name.includes("downsample") ? 10 : 1.2;
      return tf.tensor1d(uniform(SIGNS, size, 0, 1).map((draw) => (draw < 0.5 ? -magnitude : magnitude)));
    }
    if (shifted && role === "norm-scale") return tf.tensor1d(uniform(firstStream + index, size, 0.15, 0.25));
    const bound = {
      convolution: () => Math.sqrt(6 / ((shape[0] ?? 1) * (shape[1] ?? 1) * (shape[3] ?? 1))),
      dense: () => (shape[0] ?? 1) ** -0.5,
      "dense-bias": () => 0.1,
      "norm-shift": () => 0.1,
      "norm-scale": () => 0.2,
    }[role]();
    const centre = role === "norm-scale" ? 1 : 0;
    return tf.tensor(uniform(firstStream + index, size, centre - bound, centre + bound), [...shape]);
  });
}

function relativeError(tensor: Tensor, expected: Sample): number {
  const values = tensor.dataSync() as Float32Array;
  expect(values.length).toBe(expected.size);
  const difference = expected.places.reduce(
    (sum, place, i) => sum + ((values[place] ?? NaN) - (expected.values[i] ?? NaN)) ** 2,
    0,
  );
  // Samples are compared against what that many places of the vector weigh on average.
  const share = expected.norm * Math.sqrt(expected.places.length / expected.size);
  const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return Math.max(Math.sqrt(difference) / share, Math.abs(norm - expected.norm) / expected.norm);
}

describe.each(cases)("$encoder with $stem stem and $head head agrees with torchvision", (parity) => {
  const streams = 10_000 * (parity.draw + 1);
  const encoder = resnet({
    encoder: parity.encoder,
    stem: parity.stem,
    head: parity.head,
    embeddingDim: parity.dimension,
  });
  const views = (stream: number): Tensor4D => {
    const { batch, side } = parity;
    return tf.tensor4d(uniform(streams + stream, batch * side * side * 3, -2, 2), [batch, side, side, 3]);
  };
  const query = parameters(encoder.layout, streams + 1000, parity.shifted);
  const result = mocoStep({
    encoder,
    query,
    key: parameters(encoder.layout, streams + 2000, parity.shifted),
    queryViews: views(1),
    keyViews: views(2),
    queue: normalise(
      tf.tensor2d(uniform(streams + 3, parity.queue * parity.dimension, -1, 1), [parity.queue, parity.dimension]),
    ),
    temperature: parity.temperature,
    bnSplits: 1,
    keyShuffle: null,
  });

  it("in parameter names and their order", () => {
    expect(encoder.layout.parameters.map(({ name }) => name)).toEqual(Object.keys(parity.gradients));
  });

  it("in the loss", () => {
    expect(Math.abs(((result.loss as Tensor).dataSync()[0] ?? NaN) / parity.loss - 1)).toBeLessThan(TOLERANCE);
  });

  it("in the keys", () => {
    expect(relativeError(result.keys, parity.keys)).toBeLessThan(TOLERANCE);
  });

  it("in the backbone's features", () => {
    const context = forwardContext(
      encoder,
      query,
      trainingNorm(1, () => undefined),
    );
    expect(relativeError(encoder.features(context, views(1)), parity.features)).toBeLessThan(TOLERANCE);
  });

  const gradientErrors = () =>
    encoder.layout.parameters.map(({ name }, index) => {
      const expected = parity.gradients[name];
      if (expected === undefined) throw new Error(name);
      return { name, norm: expected.norm, error: relativeError(result.gradients[index], expected) };
    });

  if (!parity.shifted) {
    it("in every gradient", () => {
      expect(gradientErrors().filter(({ error }) => !(error < TOLERANCE))).toEqual([]);
    });
  } else {
    // Where batch norm shifts every channel clear of 0, the next batch norm undoes the shift: its true gradient is 0, and
    // rounding is all there is. So each error is measured against the gradient's norm as a whole.
    it("in the gradient as a whole", () => {
      const errors = gradientErrors();
      const whole = Math.hypot(...errors.map(({ norm }) => norm));
      expect(Math.hypot(...errors.map(({ norm, error }) => norm * error)) / whole).toBeLessThan(TOLERANCE);
    });
  }

  it("in the running statistics, and in the features made with them", () => {
    const start = initialBuffers(encoder.layout);
    const buffers = new Map<string, Tensor1D>();
    encoder.layout.buffers.forEach(({ name, offset, size }, index) => {
      const before = tf.tensor1d(start.slice(offset, offset + size));
      const statistic = result.queryStatistics[index];
      buffers.set(name, tf.add(tf.mul(before, 1 - BATCH_NORM_MOMENTUM), tf.mul(statistic, BATCH_NORM_MOMENTUM)));
    });
    for (const [name, expected] of Object.entries(parity.runningStatistics)) {
      expect(relativeError(buffers.get(name) as Tensor, expected), name).toBeLessThan(TOLERANCE);
    }
    const context = forwardContext(
      encoder,
      query,
      evaluationNorm((name) => buffers.get(name) as Tensor1D),
    );
    const features: Tensor2D = encoder.features(context, views(1));
    expect(relativeError(features, parity.evaluatedFeatures)).toBeLessThan(TOLERANCE);
  });
});
