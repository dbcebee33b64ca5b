/**
 * Random and mutated messages to the aggregation plane of a coordinator, to the data plane of an aggregator's process, and from a
 * coordinator that is none to such a process: no crash, no growth, and no effect on the run. `npm run fuzz` sends a million each.
 */
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Dealer, Router } from "zeromq";
import { Aggregator } from "../../../coordinator/aggregator.js";
import { beginOf, framesOf } from "../../../coordinator/aggregation-wire.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { orderCodec, PROTOCOL_VERSION, reportCodec, workerDataCodec } from "../../../src/protocol/wire.js";
import { freePorts } from "../../e2e/chaos.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, temporaryFolder } from "../../e2e/tandem.js";
import { firstState, LAYOUT, RULE } from "../../simulation/arithmetic.js";
import { random, type Random } from "../../../src/cli/simulate/random.js";
import { welcomeOf } from "./handshake.js";
import {
  FRAMES,
  MOST_GROWTH_BYTES,
  mutated,
  orderMessage,
  reportMessage,
  residentBytes,
  workerDataMessage,
} from "./mutation.js";

/** Messages of one connection before another takes its place. */
const PER_CONNECTION = 100;
const folder = temporaryFolder();
const flags = [...SMALL_RUN, "--steps", "12"];

async function attack(port: number, frames: number, seed: number, message: (draw: Random) => Uint8Array) {
  const draw = random(seed);
  for (let sent = 0; sent < frames;) {
    const socket = new Dealer({ linger: 100, sendTimeout: 5000 });
    socket.connect(`tcp://127.0.0.1:${port}`);
    // A hello that is right now and then, so that some of what follows is heard.
    const hello = {
      body: "hello",
      hello: { protocolVersion: PROTOCOL_VERSION, softwareVersion: "0.1.0" },
      number: 1,
    } as const;
    if (draw.chance(0.3)) await socket.send(Buffer.from(reportCodec.encode(hello)));
    for (let i = 0; i < PER_CONNECTION && sent < frames; i++, sent++) await socket.send(mutated(draw, message(draw)));
    socket.close();
  }
}

async function calmRun(): Promise<Readonly<Record<string, string>>> {
  const calm = join(folder, "calm");
  expect((await tandem(["train", ...flags, "--workers", "2", "--out", calm])).code).toBe(0);
  return (await checkpointOf(calm)).sha256;
}
const calm = calmRun();

it(`a run ends with the same bits after ${FRAMES} messages to each`, { timeout: 1_800_000 }, async () => {
  const out = join(folder, "attacked");
  const port = await freePorts();
  const connect = `tcp://127.0.0.1:${port}`;
  const listen = ["--listen", connect, "--set", "membership.minWorkers=2", "--aggregators", "2"];
  const coordinator = start(["coordinator", ...flags, ...listen, "--out", out]);
  await vi.waitUntil(() => coordinator.stderr().includes("listening at"), { timeout: 20_000 });
  const aggregators = [1, 2].map(() => start(["aggregator", "--connect", connect]));
  await vi.waitUntil(() => aggregators.every(({ stderr }) => stderr().includes("aggregates")), { timeout: 20_000 });
  const first = start(["worker", "--connect", connect]);
  await vi.waitUntil(() => eventsOf(out).some(({ kind }) => kind === "worker-joined"), { timeout: 30_000 });
  const { aggregators: addresses } = await welcomeOf(connect);
  const reports = (draw: Random) => reportCodec.encode(reportMessage(draw));
  const data = (draw: Random) => workerDataCodec.encode(workerDataMessage(draw));
  const assault = (frames: number, seed: number) =>
    Promise.all([attack(port + 1, frames, seed, reports), attack(addresses[0]?.port ?? 0, frames, seed + 1, data)]);
  await assault(Math.ceil(FRAMES / 10), 1);
  const before = residentBytes(coordinator.process.pid);
  await assault(FRAMES, 3);
  expect(residentBytes(coordinator.process.pid) - before).toBeLessThan(MOST_GROWTH_BYTES);

  const second = start(["worker", "--connect", connect]);
  for (const member of [first, second, ...aggregators, coordinator])
    expect((await member.ended).code, member.stderr()).toBe(0);
  expect((await checkpointOf(out)).sha256).toEqual(await calm);
  expect(eventsOf(out).filter(({ kind }) => kind === "dropped").length).toBeLessThan(2000);
});

it(`an aggregator does its part after ${FRAMES} orders of a stranger`, { timeout: 1_800_000 }, async () => {
  const port = await freePorts();
  const connect = `tcp://127.0.0.1:${port}`;
  const router = new Router({ mandatory: true, linger: 0, sendTimeout: 0, sendHighWaterMark: 0 });
  await router.bind(`tcp://127.0.0.1:${port + 1}`);
  const aggregator = start(["aggregator", "--connect", connect]);
  const draw = random(5);
  const worldSize = 3;
  const layers = LAYOUT.parameters.map(({ offset, size }) => ({
    offset,
    size,
    decay: true,
    adapt: false,
    bfloat16: true,
  }));
  const state = firstState(1);
  // What is begun is a shard that the program itself can begin.
  new Aggregator(
    { layout: LAYOUT, buckets: parameterBuckets(LAYOUT), worldSize, gradients: "fp32" as const, rule: RULE, layers },
    state,
  );
  const begin = beginOf(
    {
      ...{ runId: "r", options: { layout: LAYOUT, layers, worldSize, gradients: "fp32" as const, rule: RULE } },
      ...{ wire: { weights: "auto" as const, sharesMemory: true }, deadAfterMs: 5000, heartbeatMs: 200, allowed: null },
    },
    state,
  );
  let [sent, begun] = [0, 0];
  /** it goes away where it is told nonsense, and comes back */
  const say = async (peer: Uint8Array, message: Uint8Array, frames: readonly Uint8Array[] = []) => {
    await router.send([Buffer.from(peer), message, ...frames.map((frame) => Buffer.from(frame))]);
    sent++;
  };
  const greet = async (peer: Uint8Array) => {
    if (draw.chance(0.3)) await harass(peer, 1);
    else await say(peer, orderCodec.encode({ body: "begin", begin, number: 1 }), framesOf(state));
  };
  const harass = async (peer: Uint8Array, from: number) => {
    let number = from;
    for (let i = 0; i < 20; i++) {
      const order = orderMessage(draw);
      const bytes = orderCodec.encode({ ...order, number: draw.chance(0.95) ? number++ : order.number });
      const [head = bytes, ...frames] = draw.chance(0.05) ? [mutated(draw, bytes)].flat() : [bytes];
      await say(peer, head, frames);
    }
    await say(peer, orderCodec.encode({ body: "dropped", dropped: { reason: "enough" }, number }));
  };
  const serve = async () => {
    for await (const [peer, head] of router) {
      const message = head === undefined ? null : reportCodec.decode(head);
      if (peer === undefined) continue;
      // Whoever has gone meanwhile is not to be reached.
      if (message?.body === "hello") await greet(peer).catch(() => undefined);
      if (message?.body !== "listening") continue;
      begun++;
      await harass(peer, 2).catch(() => undefined);
    }
  };
  void serve();
  const isAt = (share: number) => () => {
    expect(aggregator.process.exitCode, aggregator.stderr()).toBeNull();
    return sent >= share * FRAMES;
  };
  // A connection takes a while: fewer orders than messages elsewhere.
  await vi.waitUntil(isAt(0.05), { timeout: 600_000, interval: 100 });
  const before = residentBytes(aggregator.process.pid);
  await vi.waitUntil(isAt(0.4), { timeout: 1_700_000, interval: 100 });
  expect(residentBytes(aggregator.process.pid) - before).toBeLessThan(MOST_GROWTH_BYTES);
  expect(begun).toBeGreaterThan(0);
  router.close();

  const out = join(folder, "served");
  const listen = ["--listen", connect, "--aggregators", "1"];
  const coordinator = start(["coordinator", ...flags, ...listen, "--out", out]);
  const worker = start(["worker", "--connect", connect]);
  for (const member of [worker, aggregator, coordinator]) expect((await member.ended).code, member.stderr()).toBe(0);
  expect((await checkpointOf(out)).sha256).toEqual(await calm);
});
