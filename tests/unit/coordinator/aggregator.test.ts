import { describe, expect, it } from "vitest";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import { gradientLength } from "../../../src/models/exchange.js";
import { sha256OfFloats } from "../../../src/protocol/digest.js";
import { layerSlices } from "../../../src/models/treatment.js";
import { initialBuffers, initialParameters, resnetArchitecture } from "../../../src/models/index.js";
import { LayoutBuilder } from "../../../src/models/parameters.js";

const f = Math.fround;
/** Several buckets. */
const { layout } = resnetArchitecture({ encoder: "resnet18", stem: "3x3", head: "linear", embeddingDim: 16 });
const LEARNING_RATE = 0.06;
const RATES = { learningRate: LEARNING_RATE, keyMomentum: 0.99, clip: 1 };
const options = {
  layout,
  buckets: parameterBuckets(layout),
  worldSize: 2,
  gradients: "fp32",
  rule: { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 },
  layers: layerSlices(layout, { decayNormAndBias: false, exclude: [] }),
} as const;

function initial(): TrainingState {
  return {
    version: 0,
    updates: 0,
    query: theta,
    key: theta,
    optimizer: [new Float32Array(layout.parameterCount).fill(0.5)],
    queryBuffers: initialBuffers(layout),
    keyBuffers: initialBuffers(layout),
  };
}

const gradients = [0, 1].map((rank) =>
  Float32Array.from({ length: gradientLength(layout) }, (_, i) => Math.sin(i * 0.37 + rank) / 10),
);
const gradientOf = (rank: number) => gradients[rank];
const theta = initialParameters(layout, 1);

function fed(): Aggregator {
  const aggregator = new Aggregator(options, initial());
  for (const rank of [0, 1]) {
    aggregator.accept(0, { level: 0, index: rank }, (target) => target.set(gradientOf(rank)));
  }
  return aggregator;
}

describe("an aggregator", () => {
  it("updates every bucket as one pass over the whole vector would, rounding to float32 after each operation", () => {
    const aggregator = fed();
    expect(aggregator.buckets.length).toBeGreaterThan(3);
    for (const step of aggregator.apply(RATES)) expect(step.next.version).toBe(1);
    const { query, key, optimizer, queryBuffers } = aggregator.state;
    const [velocity] = optimizer;

    const before = initial();
    const [oldVelocity] = before.optimizer;
    const [g0, g1] = [gradientOf(0), gradientOf(1)];
    let wrong = 0;
    for (const { offset, size, role } of layout.parameters) {
      const decay = role === "convolution" || role === "dense" ? f(5e-4) : 0;
      for (let i = offset; i < offset + size; i++) {
        const mean = f(0.5 * f(g0[i] + g1[i]));
        const v = f(f(f(0.9) * oldVelocity[i]) + f(mean + f(decay * before.query[i])));
        const q = f(before.query[i] - f(f(LEARNING_RATE) * v));
        const k = f(f(f(0.99) * before.key[i]) + f(f(1 - 0.99) * q));
        if (velocity[i] !== v || query[i] !== q || key[i] !== k) wrong++;
      }
    }
    expect(wrong).toBe(0);
    const at = layout.parameterCount + 3;
    expect(queryBuffers[3]).toBeCloseTo(0.9 * before.queryBuffers[3] + (0.1 * (g0[at] + g1[at])) / 2, 6);
  });

  it("updates in place, but elsewhere where somebody holds the state, whose vectors are used again once it is released", () => {
    const aggregator = fed();
    const step = () => {
      for (const rank of [0, 1]) {
        const { version } = aggregator.state;
        aggregator.accept(version, { level: 0, index: rank }, (target) => target.set(gradientOf(rank)));
      }
      Array.from(aggregator.apply(RATES));
    };
    const placesOf = ({ query, key, optimizer }: TrainingState) =>
      [query, key, ...optimizer].map(({ byteOffset }) => byteOffset).sort();
    const held = aggregator.hold();
    const copy = held.query.slice();
    step();
    const other = placesOf(aggregator.state);
    expect(other).not.toEqual(placesOf(held));
    step();
    step();
    expect(placesOf(aggregator.state)).toEqual(other);
    expect(held.query.every((value, i) => value === copy[i])).toBe(true);
    aggregator.release(held.version);
    aggregator.hold();
    step();
    expect(placesOf(aggregator.state)).toEqual(placesOf(held));
  });

  it("has the same bits in place as elsewhere", () => {
    const [inPlace, elsewhere] = [fed(), fed()];
    for (let step = 0; step < 3; step++) {
      elsewhere.hold();
      for (const aggregator of [inPlace, elsewhere]) {
        for (const rank of [0, 1])
          aggregator.accept(step, { level: 0, index: rank }, (target) => target.set(gradientOf((rank + step) % 2)));
        Array.from(aggregator.apply(RATES));
      }
      const digests = [inPlace, elsewhere].map(({ state: { query, key, optimizer, queryBuffers, keyBuffers } }) =>
        sha256OfFloats(query, key, ...optimizer, queryBuffers, keyBuffers),
      );
      expect(digests[0]).toBe(digests[1]);
    }
  });

  it("ignores gradients that come twice or for another step, and counts them", () => {
    const aggregator = fed();
    const read = () => {
      throw new Error("is not read");
    };
    expect(aggregator.accept(0, { level: 0, index: 1 }, read)).toBeNull();
    expect(aggregator.accept(7, { level: 0, index: 1 }, read)).toBeNull();
    expect(aggregator.ignored).toBe(2);
  });

  it("refuses a node that no rank is under, and to update while ranks are missing", () => {
    const aggregator = new Aggregator(options, initial());
    expect(() => aggregator.accept(0, { level: 0, index: 2 }, () => undefined)).toThrow("no rank is under");
    expect(() => Array.from(aggregator.apply(RATES))).toThrow("ranks missing");
  });

  it("leaves what is frozen as it is, bit for bit, whatever decays", () => {
    const builder = new LayoutBuilder();
    builder.parameter("still", [3, 5], "dense", { frozen: true });
    builder.parameter("moved", [3, 5], "dense");
    const small = builder.build();
    const start = initialParameters(small, 3);
    const empty = new Float32Array(0);
    const aggregator = new Aggregator(
      {
        ...{ ...options, layout: small, buckets: parameterBuckets(small), worldSize: 1 },
        layers: layerSlices(small, { decayNormAndBias: true, exclude: [] }),
      },
      {
        ...{ version: 0, updates: 0, query: start, key: start, optimizer: [new Float32Array(30)] },
        ...{ queryBuffers: empty, keyBuffers: empty },
      },
    );
    // Of what is frozen a rank gives the gradient 0; of the other, too, so that decay alone moves it.
    aggregator.accept(0, { level: 0, index: 0 }, (target) => target.fill(0));
    Array.from(aggregator.apply(RATES));
    const { query } = aggregator.state;
    expect(query.slice(0, 15)).toEqual(start.slice(0, 15));
    expect(query.slice(15).every((value, i) => value !== start[15 + i])).toBe(true);
  });
});
