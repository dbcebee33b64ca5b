/**
 * The embedded aggregator: a thread with the data plane's socket. It takes gradients, tells the coordinator which ranks
 * it holds, applies updates when told, and sends the new weights to every admitted worker.
 */
import { parentPort, workerData } from "node:worker_threads";
import { fromFrames, toFrames } from "../src/protocol/frames.js";
import { aggregatorCodec, workerDataCodec } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { gradientPosition, segmentBytes, weightsParts } from "../src/models/exchange.js";
import { sliceOf } from "../src/models/shards.js";
import { RouterSocket, SharedSegment, type Received } from "../src/transport/index.js";
import type { WorkerDataMessage } from "../src/protocol/wire.js";
import { Aggregator, type AggregatorOptions, type TrainingState } from "./aggregator.js";

export interface AggregatorThreadData {
  readonly options: AggregatorOptions;
  readonly state: TrainingState;
  readonly runId: string;
  /** where the data plane listens, e.g. `tcp://127.0.0.1:5556` */
  readonly endpoint: string;
}

/** What the coordinator asks of its aggregator. */
export type AggregatorCommand =
  | { readonly kind: "admit"; readonly worker: string }
  | { readonly kind: "forget"; readonly worker: string }
  | { readonly kind: "apply"; readonly step: number; readonly learningRate: number }
  /** answered by `captured` with the state as it is now, which is held until `release` */
  | { readonly kind: "capture" }
  | { readonly kind: "release"; readonly version: number }
  | { readonly kind: "close" };

/** What the aggregator tells its coordinator. */
export type AggregatorReport =
  | { readonly kind: "listening"; readonly endpoint: string }
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
  | { readonly kind: "held"; readonly step: number; readonly ranks: readonly number[] }
  | { readonly kind: "applied"; readonly step: number; readonly applyMs: number }
  | { readonly kind: "captured"; readonly state: TrainingState }
  | { readonly kind: "dropped"; readonly reason: string };

/** A connection that has said which worker it belongs to. */
interface Peer {
  readonly address: string;
  /** version of the weights on their way to it; null: it has said that it has them. One at a time: newer ones wait. */
  sending: number | null;
  /** version that it has said to have; −1: none yet */
  holds: number;
  /** memory shared with it, where it is on this machine */
  readonly segment: SharedSegment | null;
}

const { options, state, runId, endpoint } = workerData as AggregatorThreadData;
if (parentPort === null) throw new Error("the aggregator runs in a thread of the coordinator");
const coordinator = parentPort;
const report = (message: AggregatorReport) => {
  coordinator.postMessage(message);
};

const aggregator = new Aggregator(options, state);
const drop = (reason: string) => {
  report({ kind: "dropped", reason });
};
const socket = new RouterSocket(workerDataCodec, aggregatorCodec, (_peer, error) => {
  drop(error.message);
});
/** admitted workers, and the connections of those that have opened one */
const admitted = new Set<string>();
const peers = new Map<string, Peer>();

/** The connection of a worker that is admitted and has nothing on its way. */
function idlePeer(worker: string): Peer | null {
  const peer = peers.get(worker);
  return peer?.sending === null && admitted.has(worker) ? peer : null;
}

/** Everything of the state as it is now. */
async function sendWeights(worker: string): Promise<void> {
  const peer = idlePeer(worker);
  if (peer === null) return;
  const current = aggregator.hold();
  peer.sending = current.version;
  for (const shard of aggregator.shards.keys()) await sendShard(worker, current, shard, false);
}

/** Without shared memory ZeroMQ sends from the state's own, so the state is held until the worker has it, or is gone. */
async function sendShard(worker: string, of: TrainingState, shard: number, keyFollows: boolean): Promise<void> {
  const peer = peers.get(worker);
  if (peer?.sending !== of.version) return;
  const place = aggregator.shards[shard];
  const sources = { query: sliceOf(of.query, place), key: sliceOf(of.key, place), buffers: of.queryBuffers };
  const parts = weightsParts(options.layout, place, shard, keyFollows);
  const { segment } = peer;
  // One version at a time is on its way, so the worker has read whatever is overwritten here.
  for (const { name, position } of parts) segment?.write(position, sources[name]);
  const weights = { runId, version: of.version, shard, shared: segment !== null, keyFollows };
  const frames = segment === null ? toFrames(...parts.map(({ name }) => sources[name])) : [];
  if (await socket.send(peer.address, { body: "weights", weights }, frames)) return;
  drop(`weights ${String(of.version)} for ${worker}: it is gone or too far behind`);
  closePeer(worker);
}

/**
 * While one shard is on its way to the workers, the next is computed.
 * @param onSent is called when the last is on its way, and θk may still have to follow: nobody else's turn comes before
 */
async function applyAndSend(learningRate: number, onSent: () => void): Promise<void> {
  const receivers = [...admitted].flatMap((worker) => {
    const peer = idlePeer(worker);
    return peer === null ? [] : [{ worker, peer, keyFollows: peer.holds === aggregator.state.version }];
  });
  const keysAtOnce = receivers.some(({ keyFollows }) => !keyFollows);
  for (const { next, shard } of aggregator.apply(learningRate, keysAtOnce)) {
    for (const { worker, peer, keyFollows } of receivers) {
      if (shard === 0) peer.sending = aggregator.hold(next).version;
      await sendShard(worker, next, shard, keyFollows);
    }
    if (shard === aggregator.shards.length - 1) onSent();
  }
}

function closePeer(worker: string): void {
  const peer = peers.get(worker);
  peers.delete(worker);
  peer?.segment?.close();
  if (peer !== undefined && peer.sending !== null) aggregator.release(peer.sending);
}

async function receive({ peer: address, message, frames }: Received<WorkerDataMessage>): Promise<void> {
  if (message.body === "open") {
    if (message.open.runId !== runId) throw new WireError(`worker of run ${String(message.open.runId)}`);
    const worker = message.open.workerId ?? "";
    closePeer(worker);
    const { name, token } = message.open.segment ?? {};
    const isOffered = typeof name === "string" && token instanceof Uint8Array;
    const segment = isOffered ? SharedSegment.open({ name, token }, segmentBytes(options.layout)) : null;
    peers.set(worker, { address, sending: null, holds: -1, segment });
    await sendWeights(worker);
    return;
  }
  const [worker, peer] = [...peers].find(([, known]) => known.address === address) ?? [];
  if (worker === undefined || peer === undefined || !admitted.has(worker)) {
    throw new WireError(`${String(message.body)} from a worker that is not admitted`);
  }
  if (message.body === "received") {
    const version = message.received.version ?? 0;
    if (version !== peer.sending) throw new WireError(`${worker} acknowledges weights that are not on their way`);
    peer.sending = null;
    peer.holds = version;
    aggregator.release(version);
    if (version !== aggregator.state.version) await sendWeights(worker);
    return;
  }
  if (message.body !== "gradient") return;
  const { gradient } = message;
  if (gradient.runId !== runId) throw new WireError(`gradient of run ${String(gradient.runId)}`);
  const step = gradient.step ?? 0;
  const node = { level: gradient.level ?? 0, index: gradient.index ?? 0 };
  const ranks = aggregator.accept(step, node, (target) => {
    if (gradient.shared !== true) fromFrames(frames, target);
    else if (peer.segment !== null) peer.segment.read(gradientPosition(options.layout), target);
    else throw new WireError(`${worker} speaks of memory that it does not share`);
  });
  if (ranks !== null) report({ kind: "held", step, ranks });
}

async function obey(command: AggregatorCommand): Promise<void> {
  switch (command.kind) {
    case "admit":
      admitted.add(command.worker);
      await sendWeights(command.worker);
      return;
    case "forget":
      admitted.delete(command.worker);
      closePeer(command.worker);
      return;
    case "apply": {
      const start = performance.now();
      await applyAndSend(command.learningRate, () => {
        report({ kind: "applied", step: command.step, applyMs: performance.now() - start });
      });
      return;
    }
    case "capture":
      report({ kind: "captured", state: aggregator.hold() });
      return;
    case "release":
      aggregator.release(command.version);
      return;
    case "close":
      socket.close();
      coordinator.close();
      return;
  }
}

// One thing at a time, in the order of arrival: a command never runs amid another's awaits.
let turn: Promise<void> = Promise.resolve();
function inTurn(work: () => Promise<void>): Promise<void> {
  turn = turn.then(work);
  return turn;
}

try {
  report({ kind: "listening", endpoint: await socket.bind(endpoint) });
  coordinator.on("message", (command: AggregatorCommand) => {
    void inTurn(() => obey(command));
  });
  for await (const received of socket) {
    await inTurn(async () => {
      try {
        await receive(received);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        drop(error.message);
      }
    });
  }
} catch (error) {
  const { code, message } = error as { code?: unknown; message: string };
  report({ kind: "failed", code: typeof code === "string" ? code : "AGGREGATOR_FAILED", message });
}
