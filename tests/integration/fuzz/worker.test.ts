/**
 * A coordinator that sends random and mutated messages on both planes: its worker neither ends nor grows, and does its part
 * of the run, bit for bit, once the right coordinator is back. `npm run fuzz` sends a million to each socket.
 */
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { Router } from "zeromq";
import { checkConfig } from "../../../src/config/resolve.js";
import { architectureOf } from "../../../src/models/architecture.js";
import { weightsParts } from "../../../src/models/exchange.js";
import { initialBuffers, initialParameters } from "../../../src/models/parameters.js";
import { parameterBuckets } from "../../../src/models/buckets.js";
import { toFrames } from "../../../src/protocol/frames.js";
import {
  aggregatorCodec,
  coordinatorCodec,
  workerCodec,
  workerDataCodec,
  type CoordinatorMessage,
} from "../../../src/protocol/wire.js";
import { freePorts } from "../../e2e/chaos.js";
import { checkpointOf, SMALL_RUN, start, tandem, temporaryFolder } from "../../e2e/tandem.js";
import { random, type Random } from "../../../src/cli/simulate/random.js";
import { welcomeOf } from "./handshake.js";
import {
  aggregatorMessage,
  coordinatorMessage,
  FRAMES,
  MOST_GROWTH_BYTES,
  mutated,
  residentBytes,
} from "./mutation.js";

type Welcome = Awaited<ReturnType<typeof welcomeOf>>;

const folder = temporaryFolder();
/** Messages of one volley; the worker ends the connection amid most of them. */
const VOLLEY = 500;
const NOTHING: Uint8Array = Buffer.alloc(0);

/** Whether it decodes to an order that a worker rightly follows: to go, or to serve another run. */
function sendsAway(head: Buffer, isGreeting: boolean): boolean {
  try {
    const { body } = coordinatorCodec.decode(head);
    return body === "refused" || body === "finished" || (isGreeting && body === "welcome");
  } catch {
    return false;
  }
}

/** Welcomes that are none. */
function wrongWelcome(draw: Random, { runId, configJson, aggregators }: Welcome): CoordinatorMessage {
  const wrongOnes = [
    ...[[], [{}], [{ port: 0 }], [{ port: 65_536 }], [{ port: 0xffffffff }]],
    // more than there are tensors
    Array.from({ length: 5000 }, () => aggregators[0]),
    ...["a b", "tcp://x", "[::1", "\u0000", "x".repeat(300)].map((host) => [{ ...aggregators[0], host }]),
  ];
  const config = draw.pick([
    ...["", "null", "[]", "{}", "{", configJson.slice(1), configJson.replace(/"batchSize":\d+/, '"batchSize":1e99')],
    ...[configJson.replace('"parallel"', '"parallels"'), configJson.replace(/"heartbeatMs":\d+/, '"heartbeatMs":null')],
  ]);
  const wrong = draw.chance(0.3)
    ? { runId, configJson, aggregators: draw.pick(wrongOnes) }
    : { runId, configJson: config, aggregators };
  return { body: "welcome", welcome: { ...wrong, workerId: "worker-1", ticket: "t" }, number: 1 };
}

/** Both planes of a coordinator that lets a worker in, and then says anything. */
class Impostor {
  private readonly draw = random(11);
  private readonly control = new Router({ mandatory: true, linger: 0, sendHighWaterMark: 0, sendTimeout: 0 });
  private readonly data = new Router({ mandatory: true, linger: 0, sendHighWaterMark: 0, sendTimeout: 0 });
  private link = { ticket: "", control: NOTHING, data: NOTHING, isReady: false, calm: 0 };
  /** what is said at present; one thing is said at a time */
  private turn = Promise.resolve();
  sent = { control: 0, data: 0 };
  /** connections so far, and those that came as far as weights and queue */
  connections = 0;
  admitted = 0;

  constructor(private readonly welcome: Welcome) {}

  async serve(port: number): Promise<void> {
    await this.control.bind(`tcp://127.0.0.1:${port}`);
    await this.data.bind(`tcp://127.0.0.1:${port + 1}`);
    void this.serveControl();
    void this.serveData();
  }

  async close(): Promise<void> {
    await this.turn;
    this.control.close();
    this.data.close();
  }

  private async serveControl(): Promise<void> {
    for await (const [peer, head] of this.control) {
      const body = head === undefined ? undefined : workerCodec.decode(head).body;
      if (peer === undefined || (body !== "hello" && body !== "ready")) continue;
      this.turn = this.turn.then(async () => {
        if (body === "hello") await this.greet(peer);
        else {
          this.link.isReady = true;
          await this.harass();
        }
      });
    }
  }

  private async serveData(): Promise<void> {
    for await (const [peer, head] of this.data) {
      const message = head === undefined ? null : workerDataCodec.decode(head);
      if (peer === undefined || message?.body !== "open") continue;
      this.turn = this.turn.then(async () => {
        if (message.open.ticket !== this.link.ticket) return;
        this.link.data = peer;
        await this.harass();
      });
    }
  }

  private async greet(peer: Uint8Array): Promise<void> {
    const { draw, welcome } = this;
    const ticket = String(++this.connections);
    // Nonsense from the start, or between messages that the worker bears, so that it meets some in every state.
    this.link = { ticket, control: peer, data: NOTHING, isReady: false, calm: draw.pick([0, 0.9, 0.99]) };
    if (draw.chance(0.1)) await this.say(coordinatorCodec.encode(wrongWelcome(draw, welcome)));
    const number = draw.chance(0.1) ? await this.controlVolley(10, 1, true) : 1;
    const answer = { ...welcome, workerId: "worker-1", ticket };
    await this.say(coordinatorCodec.encode({ body: "welcome", welcome: answer, number }));
  }

  /** Once both connections are there: mostly what a worker needs before it computes, then nonsense while it does. */
  private async harass(): Promise<void> {
    const { draw, link } = this;
    if (!link.isReady || link.data.length === 0) return;
    const numbers = draw.chance(0.7) ? await this.admit() : { control: 2, data: 1 };
    for (let i = 0; i < 10; i++) {
      numbers.control = await this.controlVolley(VOLLEY / 10, numbers.control);
      numbers.data = await this.dataVolley(VOLLEY / 10, numbers.data);
    }
    const dropped: CoordinatorMessage = { body: "dropped", dropped: { reason: "enough" }, number: numbers.control };
    await this.say(coordinatorCodec.encode(dropped));
  }

  /** @returns the numbers of the next messages */
  private async admit(): Promise<{ control: number; data: number }> {
    const config = checkConfig(JSON.parse(this.welcome.configJson));
    const { layout } = await architectureOf(config);
    const [query, buffers] = [initialParameters(layout, 1), initialBuffers(layout)];
    const vectors = { query, key: query, buffers };
    const keys = new Float32Array(config.moco.queueSize * config.model.embeddingDim).fill(0.1);
    const snapshot: CoordinatorMessage = { body: "queueSnapshot", queueSnapshot: { version: 0 }, number: 2 };
    await this.say(coordinatorCodec.encode(snapshot), toFrames(keys));
    const buckets = parameterBuckets(layout);
    for (const [index, bucket] of buckets.entries()) {
      const parts = weightsParts(layout, bucket, index, false);
      const slices = parts.map(({ name, offset, size }) => vectors[name].subarray(offset, offset + size));
      const weights = { runId: this.welcome.runId, version: 0, bucket: index };
      await this.tell(aggregatorCodec.encode({ body: "weights", weights, number: 1 + index }), toFrames(...slices));
    }
    // A rank takes longer than all the rest.
    const assignment = { step: 0, ranks: this.draw.chance(0.2) ? [0] : [], round: 0 };
    await this.say(coordinatorCodec.encode({ body: "assignment", assignment, number: 3 }));
    this.admitted++;
    return { control: 4, data: buckets.length + 1 };
  }

  /** @returns the number of the next message */
  private async controlVolley(count: number, first: number, isGreeting = false): Promise<number> {
    const { draw } = this;
    let next = first;
    for (let i = 0; i < count; i++) {
      if (draw.chance(this.link.calm)) {
        await this.say(coordinatorCodec.encode({ body: "ping", ping: {}, number: next++ }));
        continue;
      }
      const message = { ...coordinatorMessage(draw), number: draw.chance(0.98) ? next++ : draw.below(20) };
      const [head = Buffer.alloc(0), ...frames] = mutated(draw, coordinatorCodec.encode(message));
      if (!sendsAway(head, isGreeting)) await this.say(head, frames);
    }
    return next;
  }

  private async dataVolley(count: number, first: number): Promise<number> {
    const { draw } = this;
    const { runId } = this.welcome;
    let next = first;
    for (let i = 0; i < count; i++) {
      if (draw.chance(this.link.calm)) {
        await this.tell(aggregatorCodec.encode({ body: "alive", alive: {}, number: next++ }));
        continue;
      }
      const message = { ...aggregatorMessage(draw, runId), number: draw.chance(0.98) ? next++ : draw.below(20) };
      const [head = Buffer.alloc(0), ...frames] = mutated(draw, aggregatorCodec.encode(message));
      await this.tell(head, frames);
    }
    return next;
  }

  private async say(head: Uint8Array, frames: readonly Uint8Array[] = []): Promise<void> {
    if (await delivered(this.control, [this.link.control, head, ...frames])) this.sent.control++;
  }

  private async tell(head: Uint8Array, frames: readonly Uint8Array[] = []): Promise<void> {
    if (await delivered(this.data, [this.link.data, head, ...frames])) this.sent.data++;
  }
}

/** @returns false where the peer is gone */
async function delivered(router: Router, message: Uint8Array[]): Promise<boolean> {
  try {
    await router.send(message);
    return true;
  } catch {
    return false;
  }
}

it(`a worker does its part after ${FRAMES} messages to each of its sockets`, { timeout: 3_600_000 }, async () => {
  const flags = [...SMALL_RUN, "--steps", "20", "--set", "moco.shuffle=across-ranks"];
  const calm = join(folder, "calm");
  expect((await tandem(["train", ...flags, "--workers", "1", "--out", calm])).code).toBe(0);

  const out = join(folder, "run");
  const port = await freePorts();
  const listen = ["--listen", `tcp://127.0.0.1:${port}`];
  const begun = start(["coordinator", ...flags, ...listen, "--out", out]);
  await vi.waitUntil(() => begun.stderr().includes("listening at"), { timeout: 20_000 });
  const welcome = await welcomeOf(`tcp://127.0.0.1:${port}`);
  begun.process.kill("SIGKILL");
  await begun.ended;

  const impostor = new Impostor(welcome);
  await impostor.serve(port);
  const worker = start(["worker", "--connect", `tcp://127.0.0.1:${port}`]);
  const isAt = (share: number) => () => {
    expect(worker.process.exitCode, worker.stderr()).toBeNull();
    return Math.min(impostor.sent.control, impostor.sent.data) >= share * FRAMES;
  };
  await vi.waitUntil(isAt(0.2), { timeout: 3_000_000, interval: 100 });
  const before = residentBytes(worker.process.pid);
  // Whether a connection gets as far as work is drawn: a short run goes on, to twice its length, until enough of them did.
  const isEnough = () => isAt(1)() && (impostor.admitted > 5 || isAt(2)());
  await vi.waitUntil(isEnough, { timeout: 3_000_000, interval: 100 });
  expect(residentBytes(worker.process.pid) - before).toBeLessThan(MOST_GROWTH_BYTES);
  expect(impostor.admitted).toBeGreaterThan(5);
  await impostor.close();

  const coordinator = start(["coordinator", "--resume", ...listen, "--out", out]);
  expect((await worker.ended).code, worker.stderr()).toBe(0);
  expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
  expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
});
