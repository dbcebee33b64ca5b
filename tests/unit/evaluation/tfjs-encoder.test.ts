import { execFile } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { execute } from "../../../src/engine/backend.js";
import { tf, type Tensor2D, type Tensor4D } from "../../../src/engine/index.js";
import { embeddings, frozenEncoder } from "../../../src/evaluation/features.js";
import { tfjsEncoder, type NamedFile } from "../../../src/evaluation/tfjs-encoder.js";
import { encoderOf, initialBuffers, initialParameters, type Encoder } from "../../../src/models/index.js";

const SCRIPT = fileURLToPath(new URL("../../fixtures/tfjs_features.mjs", import.meta.url));
const SIDE = 16;

interface Printed {
  readonly inputs: readonly unknown[];
  readonly outputs: readonly unknown[];
  readonly metadata: unknown;
  readonly shape: readonly number[];
  readonly features: readonly number[];
}

/** What plain tfjs makes of the files, in a process of its own, which loads them over HTTP as a browser does. */
async function inPlainTfjs(files: readonly NamedFile[], count: number): Promise<Printed> {
  const server = createServer((request, response) => {
    const file = files.find(({ name }) => request.url === `/${name}`);
    response.writeHead(file === undefined ? 404 : 200).end(file?.bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/model.json`;
    const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, url, String(count), String(SIDE)], {
      maxBuffer: 2 ** 24,
    });
    return JSON.parse(stdout) as Printed;
  } finally {
    server.close();
  }
}

async function encoderWith(overrides: Record<string, unknown>): Promise<Encoder> {
  const size = { "data.imageSize": SIDE, "data.decodeSize": SIDE };
  return encoderOf(await resolveConfig({ preset: "quickstart", overrides: { ...size, ...overrides } }));
}

describe("an encoder as a tfjs GraphModel", () => {
  it.each([
    ["resnet-tiny", { "model.encoder": "resnet-tiny" }, 1],
    ["vit-tiny, whose weights make several shards", { "model.encoder": "vit-tiny", "model.patchSize": 8 }, 6],
  ])("gives the same features in plain tfjs: %s", { timeout: 60_000 }, async (_, overrides, shards) => {
    const encoder = await encoderWith(overrides);
    const buffers = initialBuffers(encoder.layout).map((value, i) => value * (1 + (i % 7) / 10));
    const state = { parameters: initialParameters(encoder.layout, 1), buffers };
    const files = await tfjsEncoder(encoder, state, SIDE, { step: "7" });
    expect(files.map(({ name }) => name)).toEqual([
      "model.json",
      ...Array.from({ length: shards }, (_, i) => `group1-shard${String(i + 1)}of${String(shards)}.bin`),
    ]);
    const count = 3;
    const printed = await inPlainTfjs(files, count);
    expect(printed).toMatchObject({
      inputs: [["images", [-1, SIDE, SIDE, 3]]],
      outputs: ["features"],
      metadata: { step: "7" },
      shape: [count, encoder.featureDim],
    });
    const pixels = Uint8Array.from({ length: count * SIDE * SIDE * 3 }, (_, i) => (i * 37) % 256);
    const sizes = { decodeSize: SIDE, imageSize: SIDE, maxLength: 1 };
    const expected = embeddings(frozenEncoder(encoder, state), { modality: "image", pixels }, sizes, "features");
    const greatest = Math.max(...expected.map(Math.abs));
    const difference = Math.max(...printed.features.map((value, i) => Math.abs(value - expected[i])));
    expect(difference / greatest).toBeLessThan(1e-5);
  });

  it("is refused where tfjs has no such operation, or the encoder looks at the batch", async () => {
    const plain = await encoderWith({ "model.encoder": "resnet-tiny" });
    const state = { parameters: initialParameters(plain.layout, 1), buffers: initialBuffers(plain.layout) };
    const counts: Encoder = {
      ...plain,
      features: (context, images) => {
        const features = plain.features(context, images);
        return tf.mul(features, features.shape[0]);
      },
    };
    await expect(tfjsEncoder(counts, state, SIDE, {})).rejects.toMatchObject({
      name: "UserError",
      code: "EXPORT_TFJS",
      message: expect.stringContaining("depends on the number of samples in a batch"),
    });
    const digamma: Encoder = {
      ...plain,
      features: (_, images) => tf.tidy(() => unknownToTfjs(tf.mean(images as Tensor4D, [1, 2]))),
    };
    await expect(tfjsEncoder(digamma, state, SIDE, {})).rejects.toMatchObject({
      code: "EXPORT_TFJS",
      message: expect.stringMatching(/Digamma.*use --format safetensors$/),
    });
  });
});

/** An operation of TensorFlow's that tfjs does not have. */
function unknownToTfjs(x: Tensor2D): Tensor2D {
  return execute("Digamma", [x], { T: { type: "float32" } })[0] as Tensor2D;
}
