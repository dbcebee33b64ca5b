/** Steps of an aggregator against PyTorch's optimizers in float64 (tests/fixtures/optimizer_parity.py made the numbers). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Aggregator } from "../../../coordinator/aggregator.js";
import { optimizerVectors, type UpdateRule } from "../../../src/config/optimizer.js";
import { gradientLength } from "../../../src/models/exchange.js";
import { LayoutBuilder } from "../../../src/models/parameters.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { layerSlices } from "../../../src/models/treatment.js";
import { clipFactor } from "../../../src/optim/index.js";
import { uniform } from "../../fixtures/drawn.js";

/** Relative to the norm of what is compared. */
const TOLERANCE = 1e-6;

interface OptimizerCase {
  readonly name: string;
  readonly kind: UpdateRule["kind"];
  readonly weightDecay: number;
  readonly exclude: readonly string[];
  readonly decayNormAndBias: boolean;
  readonly clipNorm: number | null;
  readonly options: {
    readonly momentum?: number;
    readonly trust_coefficient?: number;
    readonly betas?: readonly [number, number];
    readonly eps?: number;
  };
  /** a parameter that starts at 0 */
  readonly zeroed: string | null;
  readonly rates: readonly number[];
  readonly parameters: readonly number[];
  readonly vectors: Readonly<Record<string, readonly number[]>>;
}

const { shapes, cases } = JSON.parse(
  readFileSync(new URL("../../fixtures/optimizer_parity.json", import.meta.url), "utf8"),
) as { readonly shapes: Readonly<Record<string, readonly number[]>>; readonly cases: readonly OptimizerCase[] };

const builder = new LayoutBuilder();
for (const [name, shape] of Object.entries(shapes)) {
  builder.parameter(name, shape, shape.length > 1 ? "dense" : "dense-bias");
}
const layout = builder.build();

function drawn(firstStream: number, low: number, high: number, zeroed: string | null = null): Float32Array {
  const values = new Float32Array(layout.parameterCount);
  layout.parameters.forEach(({ name, offset, size }, index) => {
    if (name !== zeroed) values.set(uniform(firstStream + index, size, low, high), offset);
  });
  return values;
}

function ruleOf({ kind, weightDecay, options }: OptimizerCase): UpdateRule {
  const { momentum = NaN, trust_coefficient: trustCoefficient = NaN, betas = [NaN, NaN], eps: epsilon = NaN } = options;
  switch (kind) {
    case "sgd":
      return { kind, weightDecay, momentum };
    case "lars":
      return { kind, weightDecay, momentum, trustCoefficient };
    case "adamw":
      return { kind, weightDecay, beta1: betas[0], beta2: betas[1], epsilon };
  }
}

/** @param leastBucket values in a bucket at least */
function trained(given: OptimizerCase, leastBucket: number): Aggregator {
  const rule = ruleOf(given);
  const theta = drawn(1, -0.5, 0.5, given.zeroed);
  const buffers = new Float32Array(0);
  const options = {
    ...{ layout, buckets: parameterBuckets(layout, leastBucket), worldSize: 2, rule, gradients: "fp32" as const },
    layers: layerSlices(layout, given),
  };
  const aggregator = new Aggregator(options, {
    ...{ version: 0, updates: 0, query: theta, key: theta, queryBuffers: buffers, keyBuffers: buffers },
    optimizer: optimizerVectors(rule.kind).map(() => new Float32Array(layout.parameterCount)),
  });
  given.rates.forEach((learningRate, step) => {
    const gradient = drawn(100 + 10 * step, -0.1, 0.12);
    expect(gradient.length).toBe(gradientLength(layout));
    // The mean of two ranks with the same gradient is that gradient.
    for (const index of [0, 1]) aggregator.accept(step, { level: 0, index }, (target) => target.set(gradient));
    const clip = given.clipNorm === null ? 1 : clipFactor(aggregator.squares(), given.clipNorm);
    Array.from(aggregator.apply({ learningRate, keyMomentum: 0.99, clip }));
  });
  return aggregator;
}

function expectNear(actual: Float32Array, expected: readonly number[], what: string): void {
  const norm = Math.hypot(...expected);
  const difference = Math.hypot(...expected.map((value, i) => value - actual[i]));
  expect(norm, what).toBeGreaterThan(0);
  expect(difference / norm, what).toBeLessThan(TOLERANCE);
}

describe("an aggregator updates as PyTorch does", () => {
  it.each(cases)("by $name", (given) => {
    const { query, optimizer } = trained(given, 1).state;
    expectNear(query, given.parameters, "parameters");
    const names = optimizerVectors(given.kind);
    expect(Object.keys(given.vectors)).toEqual(names);
    names.forEach((name, index) => expectNear(optimizer[index], given.vectors[name], name));
  });

  it.each(cases)("to the same bits however the parameters are cut, by $name", (given) => {
    const [one, each] = [trained(given, layout.parameterCount), trained(given, 1)];
    expect([one.buckets.length, each.buckets.length]).toEqual([1, layout.parameters.length]);
    expect([...each.state.query]).toEqual([...one.state.query]);
    expect([...each.state.key]).toEqual([...one.state.key]);
    expect(each.state.optimizer.map((vector) => [...vector])).toEqual(one.state.optimizer.map((vector) => [...vector]));
  });
});
