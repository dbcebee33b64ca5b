/** Weights that travel in bfloat16: what an aggregator sends, and what a worker makes of it. */
import { describe, expect, it } from "vitest";
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import { DataPlane, type AggregatorReport } from "../../../coordinator/data-plane.js";
import { WeightsOut } from "../../../coordinator/weights-out.js";
import { PackedWeights } from "../../../coordinator/packed-weights.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import type { WireWeights } from "../../../src/models/exchange.js";
import { initialBuffers, initialParameters, resnetArchitecture } from "../../../src/models/index.js";
import { packedBuckets, roundings } from "../../../src/models/packed-weights.js";
import { layerSlices } from "../../../src/models/treatment.js";
import { VectorArena } from "../../../src/optim/index.js";
import { sha256OfFloats } from "../../../src/protocol/digest.js";
import { workerId } from "../../../src/protocol/identifiers.js";
import { Numbering } from "../../../src/protocol/numbering.js";
import type { AggregatorMessage, Weights } from "../../../src/protocol/wire.js";
import { WireError } from "../../../src/protocol/wire-error.js";
import { IncomingWeights, type WholeWeights } from "../../../worker/incoming-weights.js";

/** An embedding of odd width, so that some stretches are of odd length. */
const { layout } = resnetArchitecture({ encoder: "resnet-tiny", stem: "3x3", head: "linear", embeddingDim: 7 });
const buckets = parameterBuckets(layout, 20_000);
const RUN = "run";
const NAME = workerId("worker-1");
const RATES = { learningRate: 0.06, keyMomentum: 0.99, clip: 1 };

/** What a worker computes with: the nearest bfloat16, ties to even, by other means than the kernel's. */
function rounded(values: Float32Array): Float32Array {
  const result = values.slice();
  const bits = new Uint32Array(result.buffer);
  for (const { role, offset, size } of layout.parameters) {
    if (role !== "convolution" && role !== "dense") continue;
    for (let i = offset; i < offset + size; i++) {
      const [low, high] = [bits[i] & 0xffff, bits[i] >>> 16];
      const up = low > 0x8000 || (low === 0x8000 && high % 2 === 1);
      bits[i] = (high + (up ? 1 : 0)) << 16;
    }
  }
  return result;
}

const digest = ({ query, key, queryBuffers }: Pick<TrainingState, "query" | "key" | "queryBuffers">) =>
  sha256OfFloats(query, key, queryBuffers);

/** An aggregator, and a worker that takes bfloat16. */
function started(wire: WireWeights, clock = () => 0) {
  const arena = new VectorArena();
  const layers = layerSlices(layout, { decayNormAndBias: true, exclude: [] }, "bf16");
  const rule = { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 } as const;
  const aggregator = new Aggregator(
    { layout, buckets, worldSize: 1, gradients: "fp32", rule, layers },
    {
      ...{ version: 0, updates: 0, query: initialParameters(layout, 1), key: initialParameters(layout, 2) },
      optimizer: [new Float32Array(layout.parameterCount)],
      ...{ queryBuffers: initialBuffers(layout), keyBuffers: initialBuffers(layout) },
    },
    arena,
  );
  const packed = new PackedWeights(arena, buckets, layers, clock);
  const reports: AggregatorReport[] = [];
  let hears: (message: AggregatorMessage, frames: readonly Uint8Array[]) => void = () => undefined;
  const weightsOut = new WeightsOut(RUN, layout, aggregator, packed, wire);
  const plane = new DataPlane(RUN, 1000, aggregator, weightsOut, {
    now: () => 0,
    send: (_address, message, frames) => {
      hears(message, frames);
    },
    report: (report) => reports.push(report),
    openSegment: () => null,
    sharedStates: null,
    digestOf: digest,
  });
  const workerArena = new VectorArena();
  /** what workers say once the plane is done with what it does */
  const due: (() => void)[] = [];
  const settle = () => {
    for (let say = due.shift(); say !== undefined; say = due.shift()) say();
  };
  const taken: { header: Weights; bytes: number }[] = [];
  const join = (incoming: IncomingWeights, holding: WholeWeights | null, isSlow = false) => {
    const numbers = new Numbering();
    let whole: WholeWeights | null = null;
    const acknowledge = (bandwidth = 0) => {
      const received = { runId: RUN, version: whole?.version ?? -1, bandwidth };
      plane.received("a", { body: "received", received, number: numbers.next() }, []);
    };
    hears = (message, frames) => {
      if (message.body !== "weights") return;
      const bytes = frames.reduce((sum, { byteLength }) => sum + byteLength, 0);
      taken.push({ header: message.weights, bytes });
      // As ZeroMQ does, which copies on the way.
      const copies = frames.map((frame) => Uint8Array.from(frame));
      const now = incoming.take(message.weights, copies);
      if (now === null) return;
      whole = now;
      if (!isSlow) due.push(acknowledge);
    };
    plane.obey({ kind: "expect", worker: NAME, ticket: "t" });
    const held = holding && {
      version: holding.version,
      sha256: sha256OfFloats(holding.vectors.query, holding.vectors.key, holding.vectors.buffers),
    };
    plane.obey({ kind: "admit", worker: NAME, holding: held });
    const open = { runId: RUN, workerId: NAME, ticket: "t", bfloat16: true };
    plane.received("a", { body: "open", open, number: numbers.next() }, []);
    settle();
    return { acknowledge, whole: () => whole ?? expect.fail("no weights have come") };
  };
  const newIncoming = () =>
    new IncomingWeights(layout, workerArena, buckets, packedBuckets(buckets, roundings(layout.parameters)));
  /** One update, or none. */
  const step = (isSkipped = false) => {
    const { version } = aggregator.state;
    aggregator.accept(version, { level: 0, index: 0 }, (target) => {
      target.forEach((_, i) => (target[i] = (Math.sin(i * 0.37 + version) / 300) * ((i % 7) - 3)));
    });
    plane.obey({ kind: "apply", step: version, rates: isSkipped ? null : RATES });
    settle();
    expect(reports.at(-1)).toMatchObject({ kind: "applied", step: version });
  };
  const expectSame = ({ version, vectors }: WholeWeights) => {
    const { state } = aggregator;
    expect(version).toBe(state.version);
    expect(sha256OfFloats(vectors.query)).toBe(sha256OfFloats(rounded(state.query)));
    expect(sha256OfFloats(vectors.key)).toBe(sha256OfFloats(rounded(state.key)));
    expect(sha256OfFloats(vectors.buffers)).toBe(sha256OfFloats(state.queryBuffers));
  };
  return { plane, aggregator, arena, packed, join, newIncoming, step, expectSame, taken };
}

describe("weights that travel in bfloat16", () => {
  it.each(["auto", "bf16", "delta"] as const)("are the rounded ones at the worker after every update (%s)", (wire) => {
    const { join, newIncoming, step, expectSame, taken } = started(wire);
    expect(buckets.length).toBeGreaterThan(2);
    const worker = join(newIncoming(), null);
    expectSame(worker.whole());
    for (let count = 0; count < 6; count++) {
      step(count === 3);
      expectSame(worker.whole());
    }
    const lastBytes = taken.slice(-buckets.length).reduce((sum, { bytes }) => sum + bytes, 0);
    const wholeBytes = taken.slice(0, buckets.length).reduce((sum, { bytes }) => sum + bytes, 0);
    expect(wholeBytes / layout.parameterCount).toBeLessThan(4.3);
    // The first update has no codes to differ from.
    const differing = taken.filter(({ header }) => typeof header.difference === "number");
    expect(differing.length).toBe(wire === "bf16" ? 0 : 4 * buckets.length);
    if (wire === "bf16") expect(lastBytes).toBe(wholeBytes);
    else expect(lastBytes).toBeLessThan(0.6 * wholeBytes);
  });

  it("are float32 where the coordinator says so", () => {
    const { aggregator, join, newIncoming, step } = started("fp32");
    const worker = join(newIncoming(), null);
    step();
    expect(sha256OfFloats(worker.whole().vectors.query)).toBe(sha256OfFloats(aggregator.state.query));
  });

  it("are whole for all at every 256th version", () => {
    const { join, newIncoming, step, expectSame, taken } = started("delta");
    const worker = join(newIncoming(), null);
    for (let count = 0; count < 258; count++) step();
    expectSame(worker.whole());
    const differs = (version: number) =>
      taken
        .filter(({ header }) => (header.version ?? 0) === version)
        .map(({ header }) => typeof header.difference === "number");
    expect(new Set(differs(255))).toEqual(new Set([true]));
    expect(new Set(differs(256))).toEqual(new Set([false]));
    expect(new Set(differs(257))).toEqual(new Set([true]));
  });

  it("need not travel again where the worker holds them, rounded as they are", () => {
    const { join, newIncoming, step, expectSame, taken } = started("auto");
    const incoming = newIncoming();
    const first = join(incoming, null);
    step();
    step();
    const held = first.whole();
    const before = taken.length;
    incoming.restart(null);
    const again = join(incoming, held);
    expect(taken.slice(before).map(({ header }) => header.unchanged)).toEqual([true]);
    expectSame(again.whole());
    step();
    expectSame(again.whole());
  });

  it("are whole for a worker that has missed a version, which costs no memory again and again", () => {
    const { arena, join, newIncoming, step, expectSame, taken } = started("delta");
    const worker = join(newIncoming(), null, true);
    worker.acknowledge();
    step();
    // Not acknowledged: nothing more is sent.
    const count = taken.length;
    step();
    step();
    expect(taken.length).toBe(count);
    worker.acknowledge();
    expect(taken.slice(count).every(({ header }) => header.bfloat16 === true && header.difference == null)).toBe(true);
    expectSame(worker.whole());
    const once = () => {
      worker.acknowledge();
      step();
      step();
      worker.acknowledge();
      expectSame(worker.whole());
    };
    once();
    const { bytes } = arena;
    for (let more = 0; more < 5; more++) once();
    expect(arena.bytes).toBe(bytes);
  });

  it("are told as differences where coding is faster than the network, and whole where it is not", () => {
    let now = 0;
    // Each look at the clock is 1 ms later: a bucket's coding takes 1 ms.
    const { join, newIncoming, step, taken } = started("auto", () => now++);
    const worker = join(newIncoming(), null, true);
    const differs = (bandwidth: number) => {
      worker.acknowledge(bandwidth);
      step();
      return typeof taken.at(-1)?.header.difference === "number";
    };
    const rate = (4 * layout.parameterCount) / (buckets.length / 1000);
    expect([differs(0), differs(0), differs(rate / 10)]).toEqual([false, true, true]);
    expect([differs(rate * 10), differs(rate * 10)]).toEqual([false, false]);
    // The first after a while has nothing to differ from.
    expect([differs(rate / 10), differs(rate / 10)]).toEqual([false, true]);
  });

  it("are refused where they are cut short, too long, or build on what is not here", () => {
    const { join, newIncoming, step } = started("delta");
    const incoming = newIncoming();
    join(incoming, null);
    step();
    const short = () => incoming.take({ version: 2, bucket: 1, bfloat16: true, difference: 4 }, [new Uint8Array(16)]);
    expect(short).toThrow(WireError);
    const long = { version: 2, bucket: 1, bfloat16: true, difference: 1 << 28 };
    expect(() => incoming.take(long, [])).toThrow(/a difference of 268435456 values/);
    const later = { version: 5, bucket: 1, bfloat16: true, difference: 40 };
    expect(() => incoming.take(later, [new Uint8Array(160)])).toThrow(
      /weights 5 build on those before, and 1 are here/,
    );
    const plain = new IncomingWeights(layout, new VectorArena(), buckets);
    expect(() => plain.take({ version: 1, bucket: 1, bfloat16: true }, [])).toThrow(/nobody rounds/);
  });
});
