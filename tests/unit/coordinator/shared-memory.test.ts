/** Aggregator and workers on one machine: nothing but messages travels, and the bits are those of an aggregator by itself. */
import { fstatSync } from "node:fs";
import { expect, it } from "vitest";
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import { DataPlane, type AggregatorReport } from "../../../coordinator/data-plane.js";
import { WeightsOut } from "../../../coordinator/weights-out.js";
import { PackedWeights } from "../../../coordinator/packed-weights.js";
import { SharedGradients, SharedWeights, spareBytes } from "../../../coordinator/shared-memory.js";
import { gradientLength } from "../../../src/models/exchange.js";
import { initialBuffers, initialParameters, resnetArchitecture } from "../../../src/models/index.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { layerSlices } from "../../../src/models/treatment.js";
import { MOST_ARENA_BYTES, VectorArena } from "../../../src/optim/index.js";
import { sha256OfFloats } from "../../../src/protocol/digest.js";
import { workerId } from "../../../src/protocol/identifiers.js";
import { Numbering } from "../../../src/protocol/numbering.js";
import type { AggregatorMessage, WorkerDataMessage } from "../../../src/protocol/wire.js";
import { pagedBytes } from "../../../src/transport/index.js";
import { IncomingWeights } from "../../../worker/incoming-weights.js";
import { SharedExchange } from "../../../worker/shared-exchange.js";

const RUN = "run";
const RATES = { learningRate: 0.06, keyMomentum: 0.99, clip: 1 };
const { layout } = resnetArchitecture({ encoder: "resnet-tiny", stem: "3x3", head: "linear", embeddingDim: 7 });

function startedIn(arena: VectorArena, worldSize: number, weights?: SharedWeights): Aggregator {
  const rule = { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 } as const;
  const layers = layerSlices(layout, { decayNormAndBias: false, exclude: [] });
  const initial: TrainingState = {
    ...{ version: 0, updates: 0, query: initialParameters(layout, 1), key: initialParameters(layout, 2) },
    optimizer: [new Float32Array(layout.parameterCount)],
    ...{ queryBuffers: initialBuffers(layout), keyBuffers: initialBuffers(layout) },
  };
  const options = { layout, buckets: parameterBuckets(layout), worldSize, gradients: "fp32" as const, rule, layers };
  return new Aggregator(options, initial, arena, weights);
}

const gradientOf = (step: number, rank: number) =>
  Float32Array.from({ length: gradientLength(layout) }, (_, i) => Math.sin(i * 0.37 + step + 10 * rank) / 10);

/** A step of an aggregator that no worker shares memory with. */
function stepAlone(aggregator: Aggregator, step: number, worldSize: number): void {
  for (let rank = 0; rank < worldSize; rank++) {
    aggregator.accept(step, { level: 0, index: rank }, (target) => {
      target.set(gradientOf(step, rank));
    });
  }
  Array.from(aggregator.apply(RATES));
}

const digestOf = ({ query, key, queryBuffers }: Pick<TrainingState, "query" | "key" | "queryBuffers">) =>
  sha256OfFloats(query, key, queryBuffers);

/** A plane, and what it says, worker by worker. */
function machine(worldSize: number, mostBytes = MOST_ARENA_BYTES) {
  const arena = new VectorArena();
  const states = SharedWeights.create(layout, arena);
  if (states === null) throw new Error("this machine has no /dev/shm");
  const aggregator = startedIn(arena, worldSize, states);
  const gradients = new SharedGradients(layout, arena, mostBytes);
  const packed = new PackedWeights(arena, aggregator.buckets, [], () => 0);
  const weightsOut = new WeightsOut(RUN, layout, aggregator, packed, "auto");
  const reports: AggregatorReport[] = [];
  const hears = new Map<string, (message: AggregatorMessage, frames: readonly Uint8Array[]) => void>();
  const plane = new DataPlane(RUN, 1000, aggregator, weightsOut, {
    now: () => 0,
    send: (address, message, frames) => hears.get(address)?.(message, frames),
    report: (report) => reports.push(report),
    openSegment: (offered) => gradients.open(offered),
    sharedStates: states,
    digestOf,
  });
  const join = (name: string) => {
    const arena = new VectorArena();
    const weights = new IncomingWeights(layout, arena, parameterBuckets(layout));
    const memory = SharedExchange.offer(layout, arena);
    if (memory === null) throw new Error("this machine has no /dev/shm");
    weights.restart(memory);
    const numbers = new Numbering();
    const tell = (message: WorkerDataMessage) => {
      plane.received(name, { ...message, number: numbers.next() }, []);
    };
    const announce = (step: number, rank: number) => {
      tell({ body: "gradient", gradient: { runId: RUN, step, level: 0, index: rank, shared: true } });
    };
    let framesSeen = 0;
    hears.set(name, (message, frames) => {
      framesSeen += frames.length;
      if (message.body === "memory") memory.take(message.memory);
      else if (message.body === "weights") weights.take(message.weights, frames);
    });
    const [worker, ticket] = [workerId(name), `ticket of ${name}`];
    plane.obey({ kind: "expect", worker, ticket });
    plane.obey({ kind: "admit", worker, holding: null });
    tell({ body: "open", open: { runId: RUN, workerId: name, ticket, segment: memory.address } });
    return {
      memory,
      framesSeen: () => framesSeen,
      digest: () => {
        const { query, key, buffers } = weights.whole.vectors;
        return [weights.whole.version, sha256OfFloats(query, key, buffers)];
      },
      acknowledge: () => {
        tell({ body: "received", received: { runId: RUN, version: weights.whole.version } });
      },
      send: (step: number, rank: number) => {
        expect(memory.claimGradient(step)).toBe(true);
        memory.gradient.set(gradientOf(step, rank));
        memory.gradientWritten();
        announce(step, rank);
      },
      announce,
      leave: () => {
        plane.obey({ kind: "forget", worker });
        memory.close();
      },
    };
  };
  return { aggregator, plane, states, reports, join };
}

it("workers have the bits of an aggregator by itself, without a frame, and slots are used again", () => {
  const { aggregator, plane, states, join } = machine(3);
  const workers = [join("a"), join("b"), join("c")];
  const alone = startedIn(new VectorArena(), 3);
  const slots = new Set<number | null>();
  for (let step = 0; step < 6; step++) {
    slots.add(states.slotOf(aggregator.state));
    for (const worker of workers) {
      expect(worker.digest()).toEqual([step, digestOf(alone.state)]);
      worker.acknowledge();
    }
    for (const [rank, worker] of workers.entries()) worker.send(step, rank);
    // As while a checkpoint is being written.
    if (step === 2) aggregator.hold();
    plane.obey({ kind: "apply", step, rates: RATES });
    stepAlone(alone, step, 3);
    if (step === 3) aggregator.release(2);
  }
  expect(workers.map(({ framesSeen }) => framesSeen())).toEqual([0, 0, 0]);
  expect([...slots]).toEqual([0, 1]);
});

it("a gradient counts whose worker is gone before the step is over", () => {
  const { aggregator, plane, reports, join } = machine(2);
  const [a, b] = [join("a"), join("b")];
  a.acknowledge();
  b.acknowledge();
  a.send(0, 0);
  a.leave();
  // Its place must not be another's yet.
  const c = join("c");
  c.acknowledge();
  b.send(0, 1);
  expect(reports.flatMap((report) => (report.kind === "held" ? report.ranks : []))).toEqual([0, 1]);
  plane.obey({ kind: "apply", step: 0, rates: RATES });
  const alone = startedIn(new VectorArena(), 2);
  stepAlone(alone, 0, 2);
  expect(digestOf(aggregator.state)).toBe(digestOf(alone.state));
  expect([b, c].map((worker) => worker.digest())).toEqual([b, c].map(() => [1, digestOf(alone.state)]));
});

it("weights stay as they are for whoever has not acknowledged them, whatever others have by then", () => {
  const { aggregator, plane, join } = machine(1);
  const [slow, quick] = [join("slow"), join("quick")];
  const first = slow.digest();
  for (let step = 0; step < 4; step++) {
    quick.acknowledge();
    quick.send(step, 0);
    plane.obey({ kind: "apply", step, rates: RATES });
    expect(quick.digest()).toEqual([step + 1, digestOf(aggregator.state)]);
    expect(slow.digest()).toEqual(first);
  }
  slow.acknowledge();
  expect(slow.digest()).toEqual([4, digestOf(aggregator.state)]);
});

it("a second gradient of a step in the same memory does not count, and changes nothing", () => {
  const { aggregator, plane, reports, join } = machine(2);
  const [a, b] = [join("a"), join("b")];
  for (const worker of [a, b]) worker.acknowledge();
  a.send(0, 0);
  a.announce(0, 1);
  expect(reports.at(-1)).toMatchObject({ kind: "dropped", reason: expect.stringContaining("a second gradient of a") });
  b.send(0, 1);
  plane.obey({ kind: "apply", step: 0, rates: RATES });
  const alone = startedIn(new VectorArena(), 2);
  stepAlone(alone, 0, 2);
  expect(digestOf(aggregator.state)).toBe(digestOf(alone.state));
});

it("a skipped update changes the number alone", () => {
  const { plane, join } = machine(1);
  const worker = join("a");
  const [, digest] = worker.digest();
  worker.acknowledge();
  plane.obey({ kind: "apply", step: 0, rates: null });
  expect(worker.digest()).toEqual([1, digest]);
});

it("maps gradients as long as there is room, and again when a worker has gone", () => {
  const arena = new VectorArena();
  const bytes = pagedBytes(gradientLength(layout));
  const gradients = new SharedGradients(layout, arena, 2 * bytes);
  const offered = () =>
    SharedExchange.offer(layout, new VectorArena())?.address ?? { process: 0, file: 0, token: new Uint8Array(0) };
  const [first, second, third] = [gradients.open(offered()), gradients.open(offered()), gradients.open(offered())];
  expect([first === null, second === null, third]).toEqual([false, false, null]);
  first?.close();
  const before = arena.bytes;
  expect(gradients.open(offered())).not.toBeNull();
  expect(arena.bytes).toBe(before);
});

it("a worker whose offer is not taken gives the memory back with the first weights, and has the same bits", () => {
  const { aggregator, join } = machine(1, 0);
  const worker = join("a");
  expect(worker.framesSeen()).toBeGreaterThan(0);
  expect(worker.digest()).toEqual([0, digestOf(aggregator.state)]);
  expect(() => fstatSync(worker.memory.address.file)).toThrow(/EBADF/);
});

it("leaves states and sums their room in the arena", () => {
  const large = { ...layout, parameterCount: 60_000_000, bufferCount: 10_000 };
  // 4 GiB, less three states of 12 bytes a parameter and 4 + 2 sums: nearly three gradients are left.
  const demand = { worldSize: 16, optimizerVectors: 1, bfloat16: false };
  expect(spareBytes(large, demand) / (4 * gradientLength(large))).toBeCloseTo(2.9, 1);
  expect(spareBytes({ ...large, parameterCount: 120_000_000 }, demand)).toBeLessThan(0);
});

it("tells a worker whose offer is taken, and who cannot open the aggregator's memory, to go without", () => {
  const memory = SharedExchange.offer(layout, new VectorArena());
  const { process: maker, token } = memory?.address ?? {};
  expect(() => memory?.take({ process: maker, file: 100_000, token })).toThrow(/cannot be shared/);
  expect(() => memory?.take({})).toThrow(/cannot be shared/);
  expect(memory?.claimGradient(0)).toBe(false);
});
