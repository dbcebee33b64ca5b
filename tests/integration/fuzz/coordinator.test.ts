/**
 * Random and mutated messages to both planes of a coordinator without keys: no crash, no growth, and no effect on the run.
 * `npm run fuzz` sends a million to each.
 */
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Dealer } from "zeromq";
import { sampleRequestCodec, workerCodec, workerDataCodec } from "../../../src/protocol/wire.js";
import { random, type Random } from "../../../src/cli/simulate/random.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "../../e2e/tandem.js";
import { welcomeOf } from "./handshake.js";
import {
  FRAMES,
  MOST_GROWTH_BYTES,
  mutated,
  residentBytes,
  sampleRequest,
  workerDataMessage,
  workerMessage,
} from "./mutation.js";

/** Messages of one connection before another takes its place: the coordinator cuts a peer off that sends nonsense. */
const PER_CONNECTION = 500;
/** Assaults of FRAMES messages within which the memory has to level off. */
const MOST_ROUNDS = 5;
const folder = temporaryFolder();

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

it(`a run ends with the same bits after ${FRAMES} messages to each plane`, { timeout: 1_800_000 }, async () => {
  const flags = [
    ...SMALL_RUN,
    "--steps",
    "60",
    "--set",
    "membership.minWorkers=2",
    "--set",
    "moco.shuffle=across-ranks",
  ];
  const calm = join(folder, "calm");
  expect((await tandem(["train", ...flags, "--workers", "2", "--out", calm])).code).toBe(0);

  const out = join(folder, "attacked");
  const coordinator = start([
    "coordinator",
    ...flags,
    "--listen",
    "tcp://127.0.0.1:*",
    "--data-delivery",
    "stream",
    "--out",
    out,
  ]);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  const port = Number(/tcp:\/\/127\.0\.0\.1:(\d+)/.exec(coordinator.stderr())?.[1]);
  const connect = `tcp://127.0.0.1:${port}`;
  const first = start(["worker", "--connect", connect]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "worker-joined"), { timeout: 30_000 });
  // The data plane's port is a free one, and told in the welcome alone: ask as a worker would.
  const { aggregators, samplesPort, runId } = await welcomeOf(connect);
  const dataPort = aggregators[0]?.port ?? 0;
  const samples = (draw: Random) => sampleRequestCodec.encode(sampleRequest(draw, runId));
  const control = (draw: Random) => workerCodec.encode(workerMessage(draw));
  const data = (draw: Random) => workerDataCodec.encode(workerDataMessage(draw));
  const assault = (frames: number, seed: number) =>
    Promise.all([
      attack(port, frames, seed, control),
      attack(dataPort, frames, seed + 1, data),
      attack(samplesPort, frames / 10, seed + 2, samples),
    ]);
  // A strangers' flood waits in memory, which the allocator keeps: that levels off, where a leak goes on.
  await assault(Math.ceil(FRAMES / 10), 1);
  let growth = Infinity;
  for (let round = 1; round <= MOST_ROUNDS && growth >= MOST_GROWTH_BYTES; round++) {
    const before = residentBytes(coordinator.process.pid);
    await assault(FRAMES, 1 + 2 * round);
    growth = residentBytes(coordinator.process.pid) - before;
  }
  expect(growth).toBeLessThan(MOST_GROWTH_BYTES);

  const second = start(["worker", "--connect", connect]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "step"), { timeout: 30_000 });
  await assault(3000, 1);
  expect((await first.ended).code, first.stderr()).toBe(0);
  expect((await second.ended).code, second.stderr()).toBe(0);
  expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
  expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
  // All are counted, few are told.
  expect(eventsOf(out).filter(({ kind }) => kind === "dropped").length).toBeLessThan(2000);
});
