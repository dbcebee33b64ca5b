/**
 * A worker's process of a benchmark of the exchange: the data plane's end as a worker has it, and, for an engine, a gradient
 * that is always ready.
 */
import { parameterBuckets } from "../../models/buckets.js";
import { initialParameters } from "../../models/parameters.js";
import { VectorArena } from "../../optim/index.js";
import { sha256OfFloats } from "../../protocol/digest.js";
import { toFrames } from "../../protocol/frames.js";
import { Numbering } from "../../protocol/numbering.js";
import { aggregatorCodec, workerDataCodec, type WorkerDataMessage } from "../../protocol/wire.js";
import { DealerSocket, pagedBytes, SharedSegment } from "../../transport/index.js";
import { IncomingWeights } from "../../../worker/incoming-weights.js";
import { SharedExchange } from "../../../worker/shared-exchange.js";
import type { FromWorker, ToWorker, WorkerTask } from "./messages.js";
import { benchmarkLayout } from "./model.js";

const { runId, workerId, ticket, rank, endpoint, parameterCount, sharesMemory } = JSON.parse(
  process.argv[2],
) as WorkerTask;
const say = (message: FromWorker) => {
  process.send?.(message);
};

const layout = benchmarkLayout(parameterCount);
// An initial draw has each layer's own scale, as a gradient does.
const gradient = new VectorArena().take(parameterCount);
gradient.set(initialParameters(layout, rank + 1));
const arena = new VectorArena();
const weights = new IncomingWeights(layout, arena, parameterBuckets(layout));
const memory = sharesMemory ? SharedExchange.offer(layout, arena) : null;
const numbers = new Numbering();
let [sent, received, shared] = [0, 0, false];

const socket = new DealerSocket(aggregatorCodec, workerDataCodec, {
  keys: null,
  misread: ({ message }) => {
    say({ kind: "failed", reason: message });
  },
  closed: (reason) => {
    say({ kind: "failed", reason });
  },
});
const tell = (message: WorkerDataMessage, frames: readonly Uint8Array[] = []) => {
  socket.post({ ...message, number: numbers.next() }, frames);
};

process.on("message", (message: ToWorker) => {
  if (message.kind === "send") send(message.step);
  else {
    const { query, key } = weights.whole.vectors;
    say({ kind: "ended", digest: sha256OfFloats(query, key), traffic: { sent, received, shared } });
  }
});
// The benchmark is over, or whoever began it is gone.
process.on("disconnect", () => {
  memory?.close();
  socket.close();
});

weights.restart(memory);
socket.connect(endpoint);
tell({ body: "open", open: { runId, workerId, ticket, segment: memory?.address } });
say({ kind: "ready" });
for await (const { message, frames } of socket) {
  if (message.body === "memory") memory?.take(message.memory);
  if (message.body !== "weights") continue;
  const version = message.weights.version ?? 0;
  // The first weights are no exchange's.
  if (version > 0) received += frames.reduce((sum, frame) => sum + frame.byteLength, 0);
  if (weights.take(message.weights, frames) === null) continue;
  tell({ body: "received", received: { runId, version } });
  say({ kind: "arrived" });
}

function send(step: number): void {
  const node = { runId, step, level: 0, index: rank };
  shared = memory?.claimGradient(step) === true;
  if (shared && memory !== null) {
    SharedSegment.ofFile(memory.file, pagedBytes(gradient.length)).write(0, gradient);
    memory.gradientWritten();
  }
  tell({ body: "gradient", gradient: { ...node, shared } }, shared ? [] : toFrames(gradient));
  sent += shared ? 0 : gradient.byteLength;
}
