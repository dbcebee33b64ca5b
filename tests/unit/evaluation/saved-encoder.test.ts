import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { resolveConfig } from "../../../src/config/index.js";
import { batchSavedModel, CannotCompile, tf, type Tensor } from "../../../src/engine/index.js";
import { embeddings, frozenEncoder } from "../../../src/evaluation/features.js";
import { savedEncoder } from "../../../src/evaluation/saved-encoder.js";
import { encoderOf, initialBuffers, initialParameters } from "../../../src/models/index.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-saved-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("an encoder as a SavedModel", () => {
  it.each(["resnet-tiny", "vit-tiny"])("gives the same features for batches of any size: %s", async (name) => {
    const overrides = { "model.encoder": name, "model.patchSize": 4, "data.imageSize": 8 };
    const encoder = await encoderOf(await resolveConfig({ preset: "quickstart", overrides }));
    const state = { parameters: initialParameters(encoder.layout, 1), buffers: initialBuffers(encoder.layout) };
    const bytes = savedEncoder(encoder, state, 8);
    writeFileSync(join(folder, "saved_model.pb"), bytes);
    const [metadata] = await tf.node.getMetaGraphsFromSavedModel(folder);
    const { inputs, outputs } = metadata?.signatureDefs["serving_default"] ?? {};
    expect([Object.keys(inputs ?? {}), Object.keys(outputs ?? {})]).toEqual([["images"], ["features"]]);
    const model = await tf.node.loadSavedModel(folder);
    for (const count of [1, 5]) {
      const images = Uint8Array.from({ length: count * 8 * 8 * 3 }, (_, i) => (i * 37) % 256);
      const given = model.predict(tf.tensor4d(new Float32Array(images), [count, 8, 8, 3])) as Tensor;
      const sizes = { decodeSize: 8, imageSize: 8, maxLength: 1 };
      const samples = { modality: "image", pixels: images } as const;
      const expected = embeddings(frozenEncoder(encoder, state), samples, sizes, "features");
      const difference = tf.max(tf.abs(tf.sub(given, tf.tensor(expected, given.shape)))).dataSync()[0];
      // TensorFlow folds weights into each other beforehand, and rounds elsewhere.
      expect(difference).toBeLessThan(1e-5);
    }
    model.dispose();
  });

  it("is refused where a computation depends on the size of the batch", () => {
    const shares = (x: Tensor) => tf.tidy(() => tf.mul(x, x.shape[0] ?? 1));
    expect(() => batchSavedModel(shares, [2], { input: "x", output: "y" })).toThrow(CannotCompile);
  });
});
