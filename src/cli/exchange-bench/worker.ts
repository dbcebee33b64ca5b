/**
 * A worker's process of a benchmark of the exchange: the data plane's ends as a worker has them, and, for an engine, a gradient
 * that is always ready.
 */
import { gradientSlice } from "../../models/exchange.js";
import { sliceOf } from "../../models/shards.js";
import { VectorArena } from "../../optim/index.js";
import { toFrames } from "../../protocol/frames.js";
import { Numbering } from "../../protocol/numbering.js";
import {
  aggregatorCodec,
  workerDataCodec,
  type AggregatorMessage,
  type WorkerDataMessage,
} from "../../protocol/wire.js";
import { DealerSocket } from "../../transport/index.js";
import { SharedExchange } from "../../../worker/shared-exchange.js";
import { digestsOf, ShardedWeights } from "../../../worker/sharded-weights.js";
import type { FromWorker, ToWorker, WorkerTask } from "./messages.js";
import { syntheticLayout } from "../../models/synthetic-layout.js";
import { Recording } from "./recording.js";

const {
  runId,
  workerId,
  ticket,
  rank,
  workers,
  warmup,
  endpoints,
  parameterCount,
  gradients,
  precision,
  sharesMemory,
} = JSON.parse(process.argv[2]) as WorkerTask;
const say = (message: FromWorker) => {
  // Whoever is gone hears nothing.
  process.send?.(message, undefined, undefined, () => undefined);
};

const layout = syntheticLayout(parameterCount);
const arena = new VectorArena();
const gradient = arena.take(parameterCount);
const recording = new Recording(layout, rank + 1);
/** The next step's gradient, as an engine would have it by the time. */
const prepare = (step: number) => {
  recording.gradient(step, workers, gradient);
  if (gradients === "bf16") arena.round(gradient);
  say({ kind: "ready" });
};
const weights = new ShardedWeights(layout, precision === "bf16");
const shards = weights.cut(endpoints.length);
/** one an aggregator */
const links = endpoints.map((endpoint, aggregator) => {
  const socket = new DealerSocket(aggregatorCodec, workerDataCodec, {
    keys: null,
    misread: ({ message }) => {
      say({ kind: "failed", reason: message });
    },
    closed: (reason) => {
      say({ kind: "failed", reason });
    },
  });
  const memory = sharesMemory ? SharedExchange.offer(shards[aggregator].layout, weights.arena) : null;
  const traffic = { sent: 0, received: 0, shared: false };
  return { endpoint, socket, memory, numbers: new Numbering(), codes: null as Float32Array | null, traffic };
});
/** aggregators of whose shard the next version is here, and at what bandwidth it came; 0: not known */
const arrived = new Map<number, number>();

const tell = (aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[] = []) => {
  const { socket, numbers } = links[aggregator];
  socket.post({ ...message, number: numbers.next() }, frames);
};

process.on("message", (message: ToWorker) => {
  if (message.kind === "send") {
    for (const aggregator of links.keys()) send(message.step, aggregator);
    return;
  }
  const whole = weights.whole();
  const digests = whole === null ? [] : digestsOf(whole);
  say({ kind: "ended", digests, traffic: links.map(({ traffic }) => traffic) });
});
// The benchmark is over, or whoever began it is gone.
process.on("disconnect", () => {
  for (const { memory, socket } of links) {
    memory?.close();
    socket.close();
  }
});

weights.restart(links.map(({ memory }) => memory));
for (const [aggregator, { socket, endpoint, memory }] of links.entries()) {
  socket.connect(endpoint);
  tell(aggregator, {
    body: "open",
    open: { runId, workerId, ticket, segment: memory?.address, bfloat16: precision === "bf16" },
  });
}
await Promise.all(
  links.map(({ socket }, aggregator) =>
    socket.listen((message, frames) => {
      hear(aggregator, message, frames);
    }),
  ),
);

function hear(aggregator: number, message: AggregatorMessage, frames: readonly Uint8Array[]): void {
  const { memory, traffic } = links[aggregator];
  if (message.body === "memory") memory?.take(message.memory);
  if (message.body !== "weights") return;
  const version = message.weights.version ?? 0;
  // The first weights are no exchange's, and the next ones of those that do not count.
  if (version > warmup) traffic.received += frames.reduce((sum, frame) => sum + frame.byteLength, 0);
  const taken = weights.take(aggregator, message.weights, frames);
  if (taken === null) return;
  arrived.set(aggregator, taken.bandwidth ?? 0);
  if (arrived.size < links.length) return;
  for (const [other, bandwidth] of arrived) tell(other, { body: "received", received: { runId, version, bandwidth } });
  arrived.clear();
  say({ kind: "arrived" });
  prepare(version);
}

/** What was packed the last time has been sent by now: weights that include it are here. */
function packed(values: Float32Array, aggregator: number): Float32Array {
  const before = links[aggregator].codes;
  if (before !== null) arena.release(before);
  return (links[aggregator].codes = arena.packed(values));
}

function send(step: number, aggregator: number): void {
  const { memory, traffic } = links[aggregator];
  const own = sliceOf(gradient, gradientSlice(shards[aggregator]));
  traffic.shared = memory?.claimGradient(step) === true;
  if (traffic.shared && memory !== null) {
    memory.gradient.set(own);
    memory.gradientWritten();
  }
  const node = { runId, step, level: 0, index: rank, shared: traffic.shared };
  const travelling = gradients === "bf16" ? packed(own, aggregator) : own;
  tell(aggregator, { body: "gradient", gradient: node }, traffic.shared ? [] : toFrames(travelling));
  if (step >= warmup) traffic.sent += traffic.shared ? 0 : travelling.byteLength;
}
