import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { UpdateRule } from "../../../src/config/index.js";
import { clipFactor, layerSquares, update, VectorArena, type LayerSlice } from "../../../src/optim/index.js";

const f = Math.fround;

/** Numbers of mixed sizes and signs, the same each time. */
function numbers(length: number, phase: number): number[] {
  return Array.from({ length }, (_, i) => f(Math.sin(i * 12.9898 + phase) * 10 ** ((i % 7) - 3)));
}

function taken(arena: VectorArena, values: readonly number[]): Float32Array {
  const vector = arena.take(values.length);
  vector.set(values);
  return vector;
}

function cut(sizes: readonly number[], how: (index: number) => Pick<LayerSlice, "decay" | "adapt">): LayerSlice[] {
  let offset = 0;
  return sizes.map((size, index) => {
    const slice = { offset, size, bfloat16: false, ...how(index) };
    offset += size;
    return slice;
  });
}

describe("an update", () => {
  // Sizes that are no multiple of the kernels' lanes: layers must not bleed into each other.
  const layers = cut([5, 3, 6], (index) => ({ decay: index !== 1, adapt: index !== 1 }));
  const length = 14;
  const [theta, gradient, velocity] = [numbers(length, 5), numbers(length, 6), numbers(length, 7)];

  function updated(rule: UpdateRule) {
    const arena = new VectorArena();
    const vectors = {
      parameters: taken(arena, theta),
      gradient: taken(arena, gradient),
      optimizer: [taken(arena, velocity)],
      nextParameters: arena.take(length),
      nextOptimizer: [arena.take(length)],
    };
    update(arena, rule, vectors, layers, { scale: 0.25, learningRate: 0.06, number: 1 });
    return { parameters: [...vectors.nextParameters], velocity: [...vectors.nextOptimizer[0]] };
  }
  const decayed = (i: number) => f(f(0.25 * gradient[i]) + f((i >= 5 && i < 8 ? 0 : f(5e-4)) * theta[i]));
  const expected = (of: (i: number) => number) => {
    const next = theta.map((_, i) => f(f(f(0.9) * velocity[i]) + of(i)));
    return { parameters: theta.map((value, i) => f(value - f(f(0.06) * next[i]))), velocity: next };
  };

  it("by SGD rounds to float32 after each operation, with decay only where the layer says so", () => {
    expect(updated({ kind: "sgd", momentum: 0.9, weightDecay: 5e-4 })).toEqual(expected(decayed));
  });

  it("by LARS scales the gradient of a layer that it adapts by the ratio of the norms", () => {
    const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    const trusts = layers.map(({ offset, size, adapt }) => {
      const indices = Array.from({ length: size }, (_, i) => offset + i);
      return adapt ? f((0.02 * norm(indices.map((i) => theta[i]))) / norm(indices.map(decayed))) : 1;
    });
    const trustOf = (i: number) => trusts[i < 5 ? 0 : i < 8 ? 1 : 2];
    expect(updated({ kind: "lars", momentum: 0.9, weightDecay: 5e-4, trustCoefficient: 0.02 })).toEqual(
      expected((i) => f(trustOf(i) * decayed(i))),
    );
  });

  it("by LARS leaves a layer of zeros, and one whose gradient is zero, to plain SGD", () => {
    for (const zero of ["parameters", "gradient"] as const) {
      const arena = new VectorArena();
      const at = (name: string) => taken(arena, name === zero ? [0, 0, 0] : [1, 2, 3]);
      const vectors = {
        ...{ parameters: at("parameters"), gradient: at("gradient"), optimizer: [taken(arena, [0, 0, 0])] },
        ...{ nextParameters: arena.take(3), nextOptimizer: [arena.take(3)] },
      };
      const rule = { kind: "lars", momentum: 0.9, weightDecay: 0, trustCoefficient: 0.001 } as const;
      const slices = cut([3], () => ({ decay: true, adapt: true }));
      update(arena, rule, vectors, slices, { scale: 1, learningRate: 1, number: 1 });
      expect([...vectors.nextOptimizer[0]]).toEqual(zero === "gradient" ? [0, 0, 0] : [1, 2, 3]);
    }
  });
});

describe("gradient clipping", () => {
  const values = fc.array(fc.float({ min: -1000, max: 1000, noNaN: true }), { minLength: 1, maxLength: 70 });

  it("gives clip_grad_norm_'s factor, to float64's precision, whatever the length", () => {
    fc.assert(
      fc.property(values, fc.double({ min: 1e-3, max: 1e3, noNaN: true }), (gradient, clipNorm) => {
        const arena = new VectorArena();
        // What lies behind the gradient must not count.
        const vector = taken(arena, [...gradient, 1e9, 1e9, 1e9]);
        const layers = cut([gradient.length], () => ({ decay: true, adapt: true }));
        const factor = clipFactor(layerSquares(arena, vector, layers, 0.5), clipNorm);
        const norm = Math.sqrt(gradient.reduce((sum, value) => sum + f(0.5 * value) ** 2, 0));
        expect(factor).toBeCloseTo(Math.min(1, clipNorm / (norm + 1e-6)), 12);
        expect(factor * norm).toBeLessThanOrEqual(clipNorm);
      }),
      { numRuns: 300 },
    );
  });

  it("has the same bits wherever the vector lies", () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 7 }), (gradient, before) => {
        const arena = new VectorArena();
        const at = (offset: number) => {
          const vector = taken(arena, [...new Array<number>(offset).fill(7), ...gradient]);
          return layerSquares(
            arena,
            vector,
            [{ offset, size: gradient.length, decay: true, adapt: true, bfloat16: false }],
            1,
          );
        };
        expect(at(before)).toEqual(at(0));
      }),
    );
  });
});
