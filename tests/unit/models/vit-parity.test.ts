/** One MoCo step of a small ViT against PyTorch and timm in float64 (tests/fixtures/vit_parity.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { tf, type Tensor, type Tensor4D } from "../../../src/engine/index.js";
import {
  OWN_BATCH,
  initialParameters,
  trainingNorm,
  visionTransformer,
  type Encoder,
} from "../../../src/models/index.js";
import { forwardContext, moco, normalise } from "../../../src/objectives/index.js";
import { relativeError, TOLERANCE, uniform, type Sample } from "../../fixtures/drawn.js";

interface ParityCase {
  /** which of the script's draws it is */
  readonly draw: number;
  readonly image: number;
  readonly patch: number;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly batch: number;
  readonly dimension: number;
  readonly hidden: number;
  readonly queue: number;
  readonly temperature: number;
  readonly loss: number;
  readonly features: Sample;
  readonly keys: Sample;
  readonly gradients: Readonly<Record<string, Sample>>;
}

const parity = JSON.parse(
  readFileSync(new URL("../../fixtures/vit_parity.json", import.meta.url), "utf8"),
) as ParityCase;
const streams = 10_000 * (parity.draw + 1);

function encoderWith(patchProjection: "frozen" | "trained"): Encoder {
  const { image, patch, dimension, hidden } = parity;
  const heads = { head: "mlp-bn", hiddenDim: hidden, embeddingDim: dimension } as const;
  return visionTransformer(parity, { imageSize: image, patchSize: patch, patchProjection, ...heads });
}

function parameters({ layout }: Encoder, firstStream: number): Tensor[] {
  const start = initialParameters(layout, 0);
  return layout.parameters.map(({ name, role, shape, offset, size }, index) => {
    // The position embedding is the model's own.
    if (name === "pos_embed") return tf.tensor(start.slice(offset, offset + size), [...shape]);
    const bound = {
      convolution: () => 0.2,
      dense: () => 2 * (shape[0] ?? 1) ** -0.5,
      "dense-bias": () => 0.1,
      "norm-shift": () => 0.1,
      "norm-scale": () => 0.2,
      token: () => 1,
    }[role]();
    const centre = role === "norm-scale" ? 1 : 0;
    return tf.tensor(uniform(firstStream + index, size, centre - bound, centre + bound), [...shape]);
  });
}

function views(stream: number): Tensor4D {
  const { batch, image } = parity;
  return tf.tensor4d(uniform(streams + stream, batch * image * image * 3, -2, 2), [batch, image, image, 3]);
}

function step(encoder: Encoder) {
  const { queue: rows, dimension, temperature } = parity;
  const queue = normalise(tf.tensor2d(uniform(streams + 3, rows * dimension, -1, 1), [rows, dimension]));
  return moco(temperature).step({
    encoder,
    query: parameters(encoder, streams + 1000),
    key: parameters(encoder, streams + 2000),
    queryViews: views(1),
    keyViews: views(2),
    queue,
    labels: null,
    temperature,
    batchNorm: OWN_BATCH,
    keyShuffle: null,
    exchanged: null,
  });
}

describe("a ViT with a trained patch projection agrees with timm", () => {
  const encoder = encoderWith("trained");
  const result = step(encoder);

  it("in parameter names and their order", () => {
    expect(encoder.layout.parameters.map(({ name }) => name)).toEqual(Object.keys(parity.gradients));
  });

  it("in the loss", () => {
    expect(Math.abs(((result.loss as Tensor).dataSync()[0] ?? NaN) / parity.loss - 1)).toBeLessThan(TOLERANCE);
  });

  it("in the keys", () => {
    expect(relativeError(result.keys ?? expect.fail("no keys"), parity.keys)).toBeLessThan(TOLERANCE);
  });

  it("in the class token's features", () => {
    const context = forwardContext(
      encoder,
      parameters(encoder, streams + 1000),
      trainingNorm(OWN_BATCH, () => undefined),
    );
    expect(relativeError(encoder.features(context, views(1)), parity.features)).toBeLessThan(TOLERANCE);
  });

  it("in every gradient but that of the fixed position embedding", () => {
    const whole = Math.hypot(...Object.values(parity.gradients).map(({ norm }) => norm));
    const errors = encoder.layout.parameters.map(({ name }, index) => {
      const expected = parity.gradients[name];
      if (expected === undefined) throw new Error(name);
      // The head's first batch norm undoes the last shift: its true gradient is 0, and rounding is all there is.
      const scale = name === "norm.bias" ? expected.norm / whole : 1;
      return { name, error: scale * relativeError(result.gradients[index], expected) };
    });
    expect(errors.filter(({ error }) => !(error < TOLERANCE)).map(({ name }) => name)).toEqual(["pos_embed"]);
  });
});

describe("a ViT with a frozen patch projection", () => {
  const [frozen, trained] = [encoderWith("frozen"), encoderWith("trained")];
  const [ofFrozen, ofTrained] = [step(frozen), step(trained)];

  it("has a gradient of 0 for it and for the position embedding, and the others unchanged", () => {
    const still: string[] = [];
    frozen.layout.parameters.forEach(({ name }, index) => {
      const values = ofFrozen.gradients[index].dataSync();
      if (values.every((value) => value === 0)) still.push(name);
      else expect(values, name).toEqual(ofTrained.gradients[index].dataSync());
    });
    expect(still).toEqual(["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]);
  });
});

it("a step of a ViT leaves no tensor behind", () => {
  const encoder = encoderWith("frozen");
  const tensors = () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      tf.dispose(step(encoder) as never);
    });
    return tf.memory().numTensors - before;
  };
  expect(tensors()).toBe(0);
});
