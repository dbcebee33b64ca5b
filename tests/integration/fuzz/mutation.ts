/** Messages that could be meant, and what becomes of them on the way: the attacker's half of the fuzzing tests. */
import { readFileSync } from "node:fs";
import {
  PROTOCOL_VERSION,
  type AggregatorMessage,
  type CoordinatorMessage,
  type OrderMessage,
  type ReportMessage,
  type SampleRequest,
  type WorkerDataMessage,
  type WorkerMessage,
} from "../../../src/protocol/wire.js";
import type { Random } from "../../../src/cli/simulate/random.js";

/** Frames to each socket: 2,500 in `npm test`, a million in `npm run fuzz`. */
export const FRAMES = Number(process.env["FUZZ_FRAMES"] ?? 2_500);
/** What a process may grow by meanwhile: its heap breathes, and a leak of 50 bytes a message would show in a million. */
export const MOST_GROWTH_BYTES = 50 * 1024 * 1024;

const number = (draw: Random) => draw.pick([0, 1, 2, 3, 7, draw.below(100), 0x7fffffff, 0xffffffff]);
const word = (draw: Random) => draw.pick(["", "r", "worker-1", "worker-2", "x".repeat(draw.below(300)), "\u0000"]);

/** A message of a kind drawn, with any fields. */
export function workerMessage(draw: Random): WorkerMessage {
  const messages: (() => WorkerMessage)[] = [
    () => ({
      body: "hello",
      hello: {
        ...{ protocolVersion: draw.below(5), softwareVersion: draw.pick(["0.1.0", word(draw)]), host: word(draw) },
        ...{ pid: number(draw), threads: draw.below(3), attempt: number(draw) },
        instance: draw.chance(0.5) ? word(draw) : draw.below(1e9).toString(16).padStart(32, "0"),
      },
    }),
    () => ({
      body: "ready",
      ready: {
        manifestHash: word(draw),
        engineFingerprint: word(draw),
        holding: { weightsVersion: number(draw), weightsSha256: [word(draw), word(draw)] },
        rounds: [number(draw)],
      },
    }),
    () => ({ body: "heartbeat", heartbeat: {} }),
    () => ({
      body: "rankResult",
      rankResult: { step: number(draw), rank: number(draw), loss: NaN, nonFinite: word(draw) },
    }),
    () => ({
      body: "rankEmbeddings",
      rankEmbeddings: { step: number(draw), rank: number(draw), round: draw.below(3) },
    }),
    () => ({ body: "features", features: { step: number(draw), chunk: number(draw) } }),
    () => ({ body: "corruptSample", corruptSample: { name: word(draw) } }),
    () => ({ body: "goodbye", goodbye: { reason: word(draw) } }),
    () => ({
      body: "drain",
      drain: { step: number(draw), ranks: [number(draw), number(draw)], embeddings: [number(draw)] },
    }),
  ];
  return { ...draw.pick(messages)(), number: draw.chance(0.7) ? 1 + draw.below(4) : number(draw) };
}

export function workerDataMessage(draw: Random): WorkerDataMessage {
  const runId = word(draw);
  const messages: (() => WorkerDataMessage)[] = [
    () => ({
      body: "open",
      open: {
        runId,
        workerId: word(draw),
        ticket: word(draw),
        bfloat16: draw.chance(0.5),
        segment: { process: number(draw), file: number(draw), token: Buffer.alloc(32) },
      },
    }),
    () => ({
      body: "gradient",
      gradient: { runId, step: number(draw), level: number(draw), index: number(draw), shared: draw.chance(0.5) },
    }),
    () => ({ body: "received", received: { runId, version: number(draw), bandwidth: draw.pick([0, NaN, 1e9]) } }),
    () => ({ body: "alive", alive: {} }),
  ];
  return { ...draw.pick(messages)(), number: draw.chance(0.7) ? 1 + draw.below(4) : number(draw) };
}

const numbered = (draw: Random) => (draw.chance(0.7) ? 1 + draw.below(4) : number(draw));

/** What an aggregator's process may say to the coordinator. */
export function reportMessage(draw: Random): ReportMessage {
  const step = () => number(draw);
  const messages: (() => ReportMessage)[] = [
    () => ({
      body: "hello",
      hello: {
        ...{ protocolVersion: draw.pick([PROTOCOL_VERSION, number(draw)]), host: word(draw), publicKey: word(draw) },
        softwareVersion: draw.pick(["0.1.0", word(draw)]),
      },
    }),
    () => ({ body: "listening", listening: { host: word(draw), port: number(draw) } }),
    () => ({ body: "held", held: { step: step(), ranks: [number(draw), number(draw)] } }),
    () => ({ body: "measured", measured: { step: step(), squares: [NaN, -1] } }),
    () => ({ body: "applied", applied: { step: step(), applyMs: -1 } }),
    () => ({ body: "captured", captured: { version: step(), updates: step() } }),
    () => ({ body: "lost", lost: { worker: word(draw), ticket: word(draw), reason: word(draw) } }),
    () => ({ body: "dropped", dropped: { reason: word(draw) } }),
    () => ({ body: "failed", failed: { code: word(draw), message: word(draw) } }),
    () => ({ body: "leaving", leaving: {} }),
    () => ({ body: "alive", alive: {} }),
  ];
  return { ...draw.pick(messages)(), number: numbered(draw) };
}

/** What a coordinator may say to an aggregator's process that it does not send away. */
export function orderMessage(draw: Random): OrderMessage {
  const messages: (() => OrderMessage)[] = [
    () => ({
      body: "begin",
      begin: {
        ...{ runId: word(draw), version: number(draw), updates: number(draw), worldSize: number(draw) },
        layers: Array.from({ length: draw.below(4) }, () => ({ size: number(draw), decay: true, adapt: false })),
        ...{ bufferCount: draw.below(5), deadAfterMs: number(draw), heartbeatMs: number(draw) },
        rule: { kind: draw.pick(["sgd", "lars", "adamw", "constructor", word(draw)]), momentum: NaN },
        allowed: draw.chance(0.1) ? [word(draw)] : [],
        ...{ wireWeights: draw.pick(["auto", "delta", "toString", word(draw)]), sharesMemory: draw.chance(0.5) },
      },
    }),
    () => ({ body: "expect", expect: { worker: word(draw), ticket: word(draw) } }),
    () => ({ body: "admit", admit: { worker: word(draw), version: number(draw), sha256: word(draw) } }),
    () => ({ body: "forget", forget: { worker: word(draw) } }),
    () => ({ body: "measure", measure: { step: number(draw) } }),
    () => ({ body: "apply", apply: { step: number(draw), skipped: draw.chance(0.3), clip: NaN } }),
    () => ({ body: "capture", capture: {} }),
    () => ({ body: "release", release: { version: number(draw) } }),
    () => ({ body: "alive", alive: {} }),
  ];
  return { ...draw.pick(messages)(), number: numbered(draw) };
}

/** What a worker may ask for. */
export function sampleRequest(draw: Random, runId: string): SampleRequest {
  const run = draw.chance(0.8) ? runId : word(draw);
  if (draw.chance(0.1)) return { body: "ask", ask: { runId: run } };
  const indices = Array.from({ length: draw.below(20) }, () => (draw.chance(0.8) ? draw.below(400) : number(draw)));
  return { body: "want", want: { runId: run, test: draw.chance(0.3), key: draw.chance(0.3), indices } };
}

function addresses(draw: Random) {
  return Array.from({ length: draw.below(3) }, () => ({ host: word(draw), port: number(draw), publicKey: word(draw) }));
}

/** What a coordinator may say to a worker that it does not send away. */
export function coordinatorMessage(draw: Random): CoordinatorMessage {
  const messages: (() => CoordinatorMessage)[] = [
    () => ({
      body: "welcome",
      welcome: {
        ...{ runId: word(draw), configJson: word(draw), aggregators: addresses(draw) },
        samplesPort: draw.chance(0.5) ? number(draw) : 0,
      },
    }),
    () => ({
      body: "queueSnapshot",
      queueSnapshot: { version: number(draw), position: number(draw), held: draw.chance(0.5) },
    }),
    () => ({ body: "queueBlock", queueBlock: { version: number(draw), skipped: draw.chance(0.5) } }),
    () => ({
      body: "assignment",
      assignment: { step: number(draw), ranks: [number(draw), draw.below(4)], round: draw.below(3) },
    }),
    () => ({ body: "embeddingBlock", embeddingBlock: { step: number(draw), round: draw.below(3) } }),
    () => ({
      body: "featureRequest",
      featureRequest: {
        ...{ step: number(draw), chunk: number(draw), testSplit: draw.chance(0.5) },
        ...{ start: number(draw), count: number(draw) },
      },
    }),
    () => ({ body: "ping", ping: {} }),
    () => ({ body: "dropped", dropped: { reason: word(draw) } }),
  ];
  return draw.pick(messages)();
}

export function aggregatorMessage(draw: Random, runId: string): AggregatorMessage {
  if (draw.chance(0.2)) return { body: "alive", alive: {} };
  return {
    body: "weights",
    weights: {
      runId: draw.chance(0.9) ? runId : word(draw),
      ...{ version: number(draw), bucket: draw.chance(0.7) ? 0 : number(draw) },
      ...{
        slot: draw.chance(0.3) ? number(draw) : null,
        keyMomentum: draw.chance(0.3) ? 0.9 : null,
        unchanged: draw.chance(0.3),
        bfloat16: draw.chance(0.5),
        difference: draw.chance(0.5) ? number(draw) : null,
      },
    },
  };
}

/** The message, often with some of its bytes changed, cut off or repeated, and frames behind it. */
export function mutated(draw: Random, encoded: Uint8Array): Buffer[] {
  let bytes = Buffer.from(encoded);
  if (draw.chance(0.5))
    for (let i = draw.below(4); i >= 0 && bytes.length > 0; i--) bytes[draw.below(bytes.length)] = draw.below(256);
  if (draw.chance(0.1)) bytes = bytes.subarray(0, draw.below(bytes.length + 1));
  if (draw.chance(0.05)) bytes = Buffer.concat([bytes, bytes]);
  if (draw.chance(0.1)) bytes = Buffer.from(Array.from({ length: draw.below(60) }, () => draw.below(256)));
  const frames = Array.from({ length: draw.chance(0.3) ? draw.below(4) : 0 }, () => Buffer.alloc(draw.below(200)));
  return [bytes, ...frames];
}

export function residentBytes(pid: number | undefined): number {
  const [, kilobytes = "0"] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(pid)}/status`, "utf8")) ?? [];
  return 1024 * Number(kilobytes);
}
