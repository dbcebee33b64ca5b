import { describe, expect, it } from "vitest";
import { PRESETS } from "../../../src/config/presets.js";
import { DRAW, drawViews } from "../../../src/data/draws.js";
import { makeViews, viewStages } from "../../../src/data/views.js";
import { tf, type Tensor4D } from "../../../src/engine/index.js";

describe("views", () => {
  it.each([
    [32, 32],
    [40, 24],
    [16, 33],
  ])("resampled axis by axis from %i to %i pixels are those of the general map", (side, size) => {
    const config = PRESETS.cifar10.augmentation;
    const samples = Int32Array.from({ length: 24 }, (_, index) => index);
    const draws = tf.tensor2d(drawViews(config, 3, 1, samples, 0, size, side), [24, DRAW.floats]);
    const images: Tensor4D = tf.randomUniform([24, side, side, 3], 0, 255, "float32", 5);
    const stages = viewStages(config);
    expect(stages.rotation).toBe(false);
    const separable = makeViews(images, draws, size, stages);
    const general = makeViews(images, draws, size, { ...stages, rotation: true });
    expect(separable.shape).toEqual([24, size, size, 3]);
    // One of 255 levels of a pixel is 0.017 after normalisation.
    expect(tf.max(tf.abs(tf.sub(separable, general))).dataSync()[0]).toBeLessThan(1e-3);
  });
});
