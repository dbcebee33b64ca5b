/** A worker that is sent the query encoder alone has the same bits as one that is sent everything. */
import { describe, expect, it } from "vitest";
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import { gradientLength, weightsParts } from "../../../src/models/exchange.js";
import { initialBuffers, initialParameters, resnetArchitecture } from "../../../src/models/index.js";
import { layerSlices } from "../../../src/models/treatment.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { sliceOf } from "../../../src/models/shards.js";
import { VectorArena } from "../../../src/optim/index.js";
import { toFrames } from "../../../src/protocol/frames.js";
import { WireError } from "../../../src/protocol/wire-error.js";
import { IncomingWeights, type WholeWeights } from "../../../worker/incoming-weights.js";

const KEY_MOMENTUM = 0.99;
/** Several buckets, and a count of parameters that no vector kernel's width divides. */
const { layout } = resnetArchitecture({ encoder: "resnet18", stem: "3x3", head: "linear", embeddingDim: 7 });

function started(): Aggregator {
  const theta = initialParameters(layout, 1);
  const options = {
    gradients: "fp32",
    rule: { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 },
    layers: layerSlices(layout, { decayNormAndBias: false, exclude: [] }),
  } as const;
  return new Aggregator({ layout, buckets: parameterBuckets(layout), worldSize: 1, ...options }, {
    version: 0,
    updates: 0,
    query: theta,
    key: initialParameters(layout, 2),
    optimizer: [new Float32Array(layout.parameterCount)],
    queryBuffers: initialBuffers(layout),
    keyBuffers: initialBuffers(layout),
  }); // prettier-ignore
}

/** One bucket as it travels. */
function send(state: TrainingState, aggregator: Aggregator, bucket: number, m: number | null, to: IncomingWeights) {
  const place = aggregator.buckets[bucket];
  const sources = { query: sliceOf(state.query, place), key: sliceOf(state.key, place), buffers: state.queryBuffers };
  const frames = toFrames(...weightsParts(layout, place, bucket, m !== null).map(({ name }) => sources[name]));
  return to.take({ version: state.version, bucket, keyMomentum: m }, frames);
}

function sendAll(aggregator: Aggregator, to: IncomingWeights): WholeWeights | null {
  const sent = aggregator.buckets.map((_, bucket) => send(aggregator.state, aggregator, bucket, null, to));
  return sent.at(-1) ?? null;
}

describe("weights arriving at a worker", () => {
  it("are whole with the last bucket, and follow the key encoder bit for bit over updates", () => {
    const aggregator = started();
    expect(layout.parameterCount % 4).not.toBe(0);
    const incoming = new IncomingWeights(layout, new VectorArena(), parameterBuckets(layout));
    let whole = sendAll(aggregator, incoming);
    for (let step = 0; step < 3; step++) {
      aggregator.accept(step, { level: 0, index: 0 }, (target) => {
        for (let i = 0; i < gradientLength(layout); i++) target[i] = Math.sin(i * 0.37 + step) / 10;
      });
      const arrived: (WholeWeights | null)[] = [];
      // Another m each step, as a schedule has it.
      const keyMomentum = 0.99 + step / 1000;
      for (const { next, bucket } of aggregator.apply({ learningRate: 0.06, keyMomentum, clip: 1 }, false)) {
        arrived.push(send(next, aggregator, bucket, keyMomentum, incoming));
      }
      expect(arrived.slice(0, -1).every((entry) => entry === null)).toBe(true);
      whole = arrived.at(-1) ?? null;
      expect(whole?.version).toBe(step + 1);
      const { query, key, queryBuffers } = aggregator.state;
      const bits = (vector: Float32Array | undefined) => Buffer.from(vector?.slice().buffer ?? new ArrayBuffer(0));
      expect(bits(whole?.vectors.query).equals(bits(query))).toBe(true);
      expect(bits(whole?.vectors.key).equals(bits(key))).toBe(true);
      expect(bits(whole?.vectors.buffers).equals(bits(queryBuffers))).toBe(true);
    }
  });

  it("are refused where they build on a version that is not here, or name a bucket that is none", () => {
    const aggregator = started();
    const incoming = new IncomingWeights(layout, new VectorArena(), parameterBuckets(layout));
    expect(() => send(aggregator.state, aggregator, 0, KEY_MOMENTUM, incoming)).toThrow(/and -1 are here/);
    sendAll(aggregator, incoming);
    const later = { ...aggregator.state, version: 2 };
    expect(() => send(later, aggregator, 0, KEY_MOMENTUM, incoming)).toThrow(WireError);
    expect(() => incoming.take({ version: 1, bucket: 0, keyMomentum: 1.5 }, [])).toThrow(/key momentum of 1.5/);
    expect(() => incoming.take({ version: 1, bucket: 99 }, [])).toThrow(/bucket 99 of \d+/);
    expect(() => incoming.take({ version: 1, slot: 0 }, [])).toThrow(/not shared/);
  });
});
