import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ImageAugmentation } from "../../../src/config/schema.js";
import { type ColourJitter, colourTransform, NO_JITTER } from "../../../src/data/colour.js";
import { DRAW, drawViews, NO_BLUR } from "../../../src/data/draws.js";
import { type CropBox, viewTransform } from "../../../src/data/geometry.js";

interface Reference {
  readonly colour: readonly {
    readonly jitter: ColourJitter;
    readonly grayscale: boolean;
    readonly pixels: readonly (readonly number[])[];
    readonly expected: readonly (readonly number[])[];
  }[];
  readonly geometry: readonly {
    readonly box: CropBox;
    readonly flipped: boolean;
    readonly degrees: number;
    readonly size: number;
    readonly outputs: readonly (readonly [number, number])[];
    readonly inputs: readonly (readonly [number, number])[];
  }[];
}

/** Made by augmentation_reference.py, beside it. */
const reference = JSON.parse(
  readFileSync(new URL("../../fixtures/augmentation_reference.json", import.meta.url), "utf8"),
) as Reference;

const OFF: ImageAugmentation = {
  crop: { probability: 0, minScale: 0.2, maxScale: 1 },
  flip: { probability: 0 },
  rotation: { probability: 0, degrees: 30 },
  jitter: { probability: 0, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
  grayscale: { probability: 0 },
  blur: { probability: 0, minSigma: 0.1, maxSigma: 2 },
};
const ON: ImageAugmentation = {
  crop: { ...OFF.crop, probability: 1 },
  flip: { probability: 0.5 },
  rotation: { ...OFF.rotation, probability: 1 },
  jitter: { ...OFF.jitter, probability: 1 },
  grayscale: { probability: 0.5 },
  blur: { ...OFF.blur, probability: 1 },
};

const IDENTITY_COLOUR = [1, 0, 0, 0, 1, 0, 0, 0, 1];

const many = Int32Array.from({ length: 4000 }, (_, index) => index);

/** One row of draws per sample. */
function rowsOf(
  config: ImageAugmentation,
  samples: Int32Array | number[] = many,
  size = 32,
  decodeSize = 32,
): Float32Array[] {
  const draws = drawViews(config, 5, 2, samples, 0, size, decodeSize);
  return Array.from(samples, (_, place) => draws.subarray(place * DRAW.floats, (place + 1) * DRAW.floats));
}

const share = (rows: readonly Float32Array[], holds: (row: Float32Array) => boolean) =>
  rows.filter(holds).length / rows.length;

/** Four standard deviations of a share of `many` whose probability is `p`. */
const spread = (p: number) => 4 * Math.sqrt((p * (1 - p)) / many.length);

describe("the colour transform", () => {
  it.each(reference.colour)(
    "equals the stages one after another: $jitter, grayscale $grayscale",
    ({ jitter, grayscale, pixels, expected }) => {
      const { matrix, meanWeights } = colourTransform(jitter, grayscale);
      const mean = [0, 1, 2].map((channel) => pixels.reduce((sum, pixel) => sum + pixel[channel], 0) / pixels.length);
      const gray = mean.reduce((sum, value, channel) => sum + value * meanWeights[channel], 0);
      pixels.forEach((pixel, i) => {
        for (let channel = 0; channel < 3; channel++) {
          const value =
            pixel[0] * matrix[channel] + pixel[1] * matrix[3 + channel] + pixel[2] * matrix[6 + channel] + gray;
          expect(value).toBeCloseTo(expected[i][channel], 9);
        }
      });
    },
  );

  it("is exactly the identity without jitter", () => {
    expect(colourTransform(NO_JITTER, false)).toEqual({ matrix: IDENTITY_COLOUR, meanWeights: [0, 0, 0] });
  });
});

describe("the view transform", () => {
  it.each(reference.geometry)(
    "puts each pixel where the stages do: $box, flipped $flipped, $degrees°, to $size",
    (given) => {
      const [a0, a1, a2, b0, b1, b2, c0, c1] = viewTransform(
        given.box,
        given.flipped,
        (given.degrees * Math.PI) / 180,
        given.size,
      );
      given.outputs.forEach(([x, y], i) => {
        expect(a0 * x + a1 * y + a2).toBeCloseTo(given.inputs[i][0], 9);
        expect(b0 * x + b1 * y + b2).toBeCloseTo(given.inputs[i][1], 9);
      });
      expect([c0, c1]).toEqual([0, 0]);
    },
  );

  it("reads the columns backwards when it only flips", () => {
    const transform = viewTransform({ left: 0, top: 0, width: 32, height: 32 }, true, 0, 32);
    expect([...transform].map((value) => value + 0)).toEqual([-1, 0, 31, 0, 1, 0, 0, 0]);
  });
});

describe("draws with every augmentation off", () => {
  it("are exactly the identity where nothing is resized", () => {
    for (const row of rowsOf(OFF, [0, 1, 77])) {
      expect([...row].map((value) => value + 0)).toEqual([
        1,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        ...IDENTITY_COLOUR,
        0,
        0,
        0,
        Math.fround(NO_BLUR),
      ]);
    }
  });

  it("resize with half-pixel centres otherwise", () => {
    const [row] = rowsOf(OFF, [3], 32, 64);
    // Output pixel 0 covers input pixels 0 and 1, whose middle is 0.5.
    expect([...row.subarray(DRAW.transform, DRAW.colour)].map((value) => value + 0)).toEqual([
      2, 0, 0.5, 0, 2, 0.5, 0, 0,
    ]);
  });

  it("blur not at all: the kernel is 1 at distance 0 and 0 elsewhere, also in float32", () => {
    const sharpness = Math.fround(NO_BLUR);
    expect([0, 1, 1e4].map((distance) => Math.exp(-Math.fround(distance * distance * sharpness)))).toEqual([1, 0, 0]);
    expect(Math.fround(1e8 * sharpness)).toBeLessThan(Infinity);
  });
});

describe("draws of a view", () => {
  it("are a pure function of seed, epoch, sample and view, wherever in a batch the sample lies", () => {
    const draw = (seed: number, epoch: number, samples: number[], view: 0 | 1) =>
      drawViews(ON, seed, epoch, samples, view, 32, 40);
    const alone = draw(1, 2, [3], 0);
    expect(draw(1, 2, [9, 3], 0).subarray(DRAW.floats)).toEqual(alone);
    for (const other of [draw(2, 2, [3], 0), draw(1, 3, [3], 0), draw(1, 2, [4], 0), draw(1, 2, [3], 1)])
      expect(other).not.toEqual(alone);
  });

  it("are written into a given target", () => {
    const target = new Float32Array(DRAW.floats);
    expect(drawViews(ON, 1, 2, [3], 0, 32, 32, target)).toBe(target);
    expect(target).toEqual(drawViews(ON, 1, 2, [3], 0, 32, 32));
  });

  it.each(["crop", "flip", "rotation", "jitter", "grayscale", "blur"] as const)(
    "keep the others' when %s is switched off",
    (stage) => {
      const off = { ...ON, [stage]: OFF[stage] };
      const parts = { transform: [0, 8], colour: [8, 20], blur: [20, 21] } as const;
      const part = stage === "blur" ? "blur" : stage === "jitter" || stage === "grayscale" ? "colour" : "transform";
      const before = rowsOf(ON, many.subarray(0, 32));
      const after = rowsOf(off, many.subarray(0, 32));
      for (const [name, [start, end]] of Object.entries(parts)) {
        const same = before.every((row, i) =>
          row.subarray(start, end).every((value, j) => value === after[i].subarray(start, end)[j]),
        );
        expect([name, same]).toEqual([name, name !== part]);
      }
    },
  );

  it("turn by the same angle with and without a crop", () => {
    const angles = (config: ImageAugmentation) => rowsOf(config, [0, 1, 2]).map((row) => Math.atan2(-row[1], row[0]));
    const flipless = { ...ON, flip: OFF.flip };
    const uncropped = angles({ ...flipless, crop: OFF.crop });
    angles(flipless).forEach((angle, i) => expect(angle).toBeCloseTo(uncropped[i], 6));
  });

  it("crop boxes within the image, of the areas and aspects asked for", () => {
    const rows = rowsOf({ ...OFF, crop: ON.crop }, many, 32, 40);
    const boxes = rows.map((row) => {
      const [a0, , a2, , b1, b2] = row;
      return { left: a2 + 0.5 - a0 / 2, top: b2 + 0.5 - b1 / 2, width: a0 * 32, height: b1 * 32 };
    });
    for (const { left, top, width, height } of boxes) {
      expect(Math.min(left, top)).toBeGreaterThanOrEqual(-1e-4);
      expect(Math.max(left + width, top + height)).toBeLessThanOrEqual(40 + 1e-4);
      expect(width / height).toBeGreaterThan(0.749);
      expect(width / height).toBeLessThan(1.334);
      expect((width * height) / 1600).toBeGreaterThan(0.1999);
    }
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    // Uniform on [0.2, 1] would have mean 0.6; large oblong boxes do not fit and are drawn again.
    expect(mean(boxes.map(({ width, height }) => (width * height) / 1600))).toBeCloseTo(0.56, 1);
    expect(mean(boxes.map(({ width, height }) => Math.log(width / height)))).toBeCloseTo(0, 1);
    expect(mean(boxes.map(({ left, width }) => left / (40 - width)))).toBeCloseTo(0.5, 1);
  });

  it("fall back to the whole image where no crop fits", () => {
    const whole = { ...OFF, crop: { probability: 1, minScale: 1, maxScale: 1 } };
    for (const row of rowsOf(whole, [0, 1, 2]))
      expect([...row.subarray(0, 8)].map((value) => value + 0)).toEqual([1, 0, 0, 0, 1, 0, 0, 0]);
  });

  it("apply each stage with its probability", () => {
    const some = (p: number): ImageAugmentation => ({
      crop: { ...ON.crop, probability: p },
      flip: { probability: p },
      rotation: { ...ON.rotation, probability: p },
      jitter: { ...ON.jitter, probability: p },
      grayscale: { probability: p },
      blur: { ...ON.blur, probability: p },
    });
    const only = (stage: keyof ImageAugmentation, p: number) => rowsOf({ ...OFF, [stage]: some(p)[stage] });
    const near = (value: number, p: number) => expect(Math.abs(value - p)).toBeLessThanOrEqual(spread(p));
    near(
      share(only("flip", 0.5), (row) => row[0] < 0),
      0.5,
    );
    near(
      share(only("rotation", 0.3), (row) => row[1] !== 0),
      0.3,
    );
    near(
      share(only("crop", 0.7), (row) => row[0] !== 1 || row[4] !== 1),
      0.7,
    );
    near(
      share(only("jitter", 0.8), (row) => row[DRAW.contrast] !== 0),
      0.8,
    );
    near(
      share(only("grayscale", 0.2), (row) => row[DRAW.colour] === row[DRAW.colour + 1]),
      0.2,
    );
    near(
      share(only("blur", 0.5), (row) => row[DRAW.blur] < 1e20),
      0.5,
    );
  });

  it("draw angles, factors and σ from their whole ranges", () => {
    const range = (values: number[]) => [Math.min(...values), Math.max(...values)];
    const angles = range(
      rowsOf({ ...OFF, rotation: ON.rotation }).map((row) => (Math.atan2(row[3], row[0]) * 180) / Math.PI),
    );
    expect(angles[0]).toBeGreaterThanOrEqual(-30.001);
    expect(angles[0]).toBeLessThan(-29.5);
    expect(angles[1]).toBeGreaterThan(29.5);
    expect(angles[1]).toBeLessThanOrEqual(30.001);
    const onlyBrightness = { ...ON.jitter, contrast: 0, saturation: 0, hue: 0 };
    const brightness = range(rowsOf({ ...OFF, jitter: onlyBrightness }).map((row) => row[DRAW.colour]));
    expect(brightness[0]).toBeCloseTo(0.6, 2);
    expect(brightness[1]).toBeCloseTo(1.4, 2);
    const sigma = range(rowsOf({ ...OFF, blur: ON.blur }).map((row) => 1 / Math.sqrt(2 * row[DRAW.blur])));
    expect(sigma[0]).toBeCloseTo(0.1, 2);
    expect(sigma[1]).toBeCloseTo(2, 2);
  });
});
