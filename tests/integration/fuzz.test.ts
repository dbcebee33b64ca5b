/**
 * Random and mutated messages to both planes of a coordinator without keys: no crash, no growth, and no effect on the run.
 * `npm run fuzz` sends a million to each.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Dealer } from "zeromq";
import { workerCodec, workerDataCodec, type WorkerDataMessage, type WorkerMessage } from "../../src/protocol/wire.js";
import { random, type Random } from "../simulation/random.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "../e2e/tandem.js";

const FRAMES = Number(process.env["FUZZ_FRAMES"] ?? 30_000);
/** Messages of one connection before another takes its place: the coordinator cuts a peer off that sends nonsense. */
const PER_CONNECTION = 500;
const MOST_GROWTH_BYTES = 100 * 1024 * 1024;
const folder = temporaryFolder();

function number(draw: Random): number {
  return draw.pick([0, 1, 2, 3, 7, draw.below(100), 0x7fffffff, 0xffffffff]);
}
const word = (draw: Random) => draw.pick(["", "r", "worker-1", "worker-2", "x".repeat(draw.below(300)), "\u0000"]);

/** A message that could be a worker's, with any fields. */
function controlMessage(draw: Random): WorkerMessage {
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
      ready: { manifestHash: word(draw), engineFingerprint: word(draw), holding: { weightsVersion: number(draw) } },
    }),
    () => ({ body: "heartbeat", heartbeat: {} }),
    () => ({
      body: "rankResult",
      rankResult: { step: number(draw), rank: number(draw), loss: NaN, nonFinite: word(draw) },
    }),
    () => ({ body: "features", features: { step: number(draw), chunk: number(draw) } }),
    () => ({ body: "corruptSample", corruptSample: { name: word(draw) } }),
    () => ({ body: "goodbye", goodbye: { reason: word(draw) } }),
    () => ({ body: "drain", drain: { step: number(draw), ranks: [number(draw), number(draw)] } }),
  ];
  return { ...draw.pick(messages)(), number: draw.chance(0.7) ? 1 + draw.below(4) : number(draw) };
}

function dataMessage(draw: Random): WorkerDataMessage {
  const runId = word(draw);
  const messages: (() => WorkerDataMessage)[] = [
    () => ({
      body: "open",
      open: { runId, workerId: word(draw), ticket: word(draw), segment: { name: word(draw), token: Buffer.alloc(32) } },
    }),
    () => ({
      body: "gradient",
      gradient: { runId, step: number(draw), level: number(draw), index: number(draw), shared: draw.chance(0.5) },
    }),
    () => ({ body: "received", received: { runId, version: number(draw) } }),
    () => ({ body: "alive", alive: {} }),
  ];
  return { ...draw.pick(messages)(), number: draw.chance(0.7) ? 1 + draw.below(4) : number(draw) };
}

/** The message, often with some of its bytes changed, cut off or repeated, and frames behind it. */
function mutated(draw: Random, encoded: Uint8Array): Buffer[] {
  let bytes = Buffer.from(encoded);
  if (draw.chance(0.5))
    for (let i = draw.below(4); i >= 0 && bytes.length > 0; i--) bytes[draw.below(bytes.length)] = draw.below(256);
  if (draw.chance(0.1)) bytes = bytes.subarray(0, draw.below(bytes.length + 1));
  if (draw.chance(0.05)) bytes = Buffer.concat([bytes, bytes]);
  if (draw.chance(0.1)) bytes = Buffer.from(Array.from({ length: draw.below(60) }, () => draw.below(256)));
  const frames = Array.from({ length: draw.chance(0.3) ? draw.below(4) : 0 }, () => Buffer.alloc(draw.below(200)));
  return [bytes, ...frames];
}

async function attack(
  port: number,
  frames: number,
  seed: number,
  message: (draw: Random) => Uint8Array,
): Promise<void> {
  const draw = random(seed);
  for (let sent = 0; sent < frames;) {
    const socket = new Dealer({ linger: 100, sendTimeout: 5000 });
    socket.connect(`tcp://127.0.0.1:${port}`);
    for (let i = 0; i < PER_CONNECTION && sent < frames; i++, sent++) await socket.send(mutated(draw, message(draw)));
    socket.close();
  }
}

function residentBytes(pid: number | undefined): number {
  const [, kilobytes = "0"] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(pid)}/status`, "utf8")) ?? [];
  return 1024 * Number(kilobytes);
}

it(`a run ends with the same bits after ${FRAMES} messages to each plane`, { timeout: 1_800_000 }, async () => {
  const flags = [...SMALL_RUN, "--steps", "100", "--set", "membership.minWorkers=2"];
  const calm = join(folder, "calm");
  expect((await tandem(["train", ...flags, "--workers", "2", "--out", calm])).code).toBe(0);

  const out = join(folder, "attacked");
  const coordinator = start(["coordinator", ...flags, "--listen", "tcp://127.0.0.1:*", "--out", out]);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  const port = Number(/tcp:\/\/127\.0\.0\.1:(\d+)/.exec(coordinator.stderr())?.[1]);
  const connect = `tcp://127.0.0.1:${port}`;
  const first = start(["worker", "--connect", connect]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "worker-joined"), { timeout: 30_000 });
  // The data plane's port is a free one, and told in the welcome alone: ask as a worker would.
  const dataPort = await askForDataPort(connect);
  const control = (draw: Random) => workerCodec.encode(controlMessage(draw));
  const data = (draw: Random) => workerDataCodec.encode(dataMessage(draw));
  const assault = (frames: number, seed: number) =>
    Promise.all([attack(port, frames, seed, control), attack(dataPort, frames, seed + 1, data)]);
  await assault(Math.ceil(FRAMES / 10), 1);
  const before = residentBytes(coordinator.process.pid);
  await assault(FRAMES, 3);
  expect(residentBytes(coordinator.process.pid) - before).toBeLessThan(MOST_GROWTH_BYTES);

  const second = start(["worker", "--connect", connect]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "step"), { timeout: 30_000 });
  await assault(3000, 5);
  expect((await first.ended).code, first.stderr()).toBe(0);
  expect((await second.ended).code, second.stderr()).toBe(0);
  expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
  expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
  // All are counted, few are told.
  expect(eventsOf(out).filter(({ kind }) => kind === "dropped").length).toBeLessThan(2000);
});

async function askForDataPort(endpoint: string): Promise<number> {
  const { coordinatorCodec, PROTOCOL_VERSION } = await import("../../src/protocol/wire.js");
  const { SOFTWARE_VERSION } = await import("../../src/protocol/version.js");
  const socket = new Dealer({ linger: 0 });
  socket.connect(endpoint);
  const hello = {
    protocolVersion: PROTOCOL_VERSION,
    softwareVersion: SOFTWARE_VERSION,
    instance: "a".repeat(32),
    attempt: 1,
  };
  await socket.send(Buffer.from(workerCodec.encode({ body: "hello", hello, number: 1 })));
  const [answer] = await socket.receive();
  socket.close();
  const message = coordinatorCodec.decode(answer ?? Buffer.alloc(0));
  return message.body === "welcome" ? (message.welcome.dataPort ?? 0) : 0;
}
