/** One MoCo step against PyTorch and torchvision in float64 (tests/fixtures/moco_parity.py and resnet_parity.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D } from "../../../src/engine/index.js";
import {
  OWN_BATCH,
  BATCH_NORM_MOMENTUM,
  evaluationNorm,
  initialBuffers,
  resnet,
  trainingNorm,
  type ResnetOptions,
  type ParameterSpec,
} from "../../../src/models/index.js";
import { forwardContext, moco, normalise } from "../../../src/objectives/index.js";
import {
  parameterDrawn,
  parametersDrawn,
  relativeError,
  TOLERANCE,
  uniform,
  type Sample,
} from "../../fixtures/drawn.js";

interface ParityCase {
  /** which of the script's draws it is */
  readonly draw: number;
  /** whether batch norm shifts every channel clear of 0; see the script */
  readonly shifted: boolean;
  readonly encoder: ResnetOptions["encoder"];
  readonly stem: ResnetOptions["stem"];
  readonly head: ResnetOptions["head"];
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

const cases = ["moco_parity.json", "resnet_parity.json"].flatMap(
  (name) =>
    JSON.parse(readFileSync(new URL(`../../fixtures/${name}`, import.meta.url), "utf8")) as readonly ParityCase[],
);

/** Stream of the signs by which `shifted` networks keep each channel's ReLUs on one side. */
const SIGNS = 77;

/** Batch norm's parameters of a `shifted` network; the others are drawn as ever. */
function shifted(spec: ParameterSpec, stream: number): Float32Array {
  const { name, role, size } = spec;
  if (role === "norm-scale") return uniform(stream, size, 0.15, 0.25);
  if (role !== "norm-shift") return parameterDrawn(spec, stream);
  const magnitude = name.includes("downsample") ? 10 : 1.2;
  return uniform(SIGNS, size, 0, 1).map((draw) => (draw < 0.5 ? -magnitude : magnitude));
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
  const draw = parity.shifted ? shifted : parameterDrawn;
  const query = parametersDrawn(encoder.layout, streams + 1000, draw);
  const queue = normalise(
    tf.tensor2d(uniform(streams + 3, parity.queue * parity.dimension, -1, 1), [parity.queue, parity.dimension]),
  );
  const result = moco(parity.temperature).step({
    encoder,
    query,
    key: parametersDrawn(encoder.layout, streams + 2000, draw),
    queryViews: views(1),
    keyViews: views(2),
    queue,
    labels: null,
    temperature: parity.temperature,
    batchNorm: OWN_BATCH,
    keyShuffle: null,
    exchanged: null,
  });

  it("in parameter names and their order", () => {
    expect(encoder.layout.parameters.map(({ name }) => name)).toEqual(Object.keys(parity.gradients));
  });

  it("in the loss", () => {
    expect(Math.abs(((result.loss as Tensor).dataSync()[0] ?? NaN) / parity.loss - 1)).toBeLessThan(TOLERANCE);
  });

  it("in the keys", () => {
    expect(relativeError(result.keys ?? expect.fail("no keys"), parity.keys)).toBeLessThan(TOLERANCE);
  });

  it("in the backbone's features", () => {
    const context = forwardContext(
      encoder,
      query,
      trainingNorm(OWN_BATCH, () => undefined),
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
