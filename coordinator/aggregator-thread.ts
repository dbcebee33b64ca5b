/** The thread of the embedded aggregator: the data plane's socket, and the commands of the coordinator's main thread. */
import { parentPort, workerData } from "node:worker_threads";
import { parameterBuckets } from "../src/models/buckets.js";
import type { Wire } from "../src/models/exchange.js";
import { letGo } from "../src/native/let-go.js";
import { VectorArena } from "../src/optim/index.js";
import { aggregatorCodec, workerDataCodec } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { sha256OfFloats } from "../src/protocol/digest.js";
import { RouterSocket, type Guard } from "../src/transport/index.js";
import { Aggregator, vectorsOf, type AggregatorOptions, type TrainingState } from "./aggregator.js";
import { DataPlane, ORDER_INVALID, type AggregatorCommand, type AggregatorReport } from "./data-plane.js";
import type { FirstReport } from "./plane-thread.js";
import { PackedWeights } from "./packed-weights.js";
import { WeightsOut } from "./weights-out.js";
import { demandOf, SharedGradients, SharedWeights, spareBytes } from "./shared-memory.js";

export interface AggregatorThreadData {
  readonly options: Omit<AggregatorOptions, "buckets">;
  readonly wire: Wire;
  readonly runId: string;
  /** where the data plane listens, e.g. `tcp://127.0.0.1:5556` */
  readonly endpoint: string;
  /** silence after which a worker's connection is given up, in ms */
  readonly deadAfterMs: number;
  /** null: whoever reaches the port may speak */
  readonly guard: Guard | null;
}

export type ThreadCommand = AggregatorCommand | { readonly kind: "close" };

export type ThreadReport = AggregatorReport | FirstReport;

const { options, wire, runId, endpoint, deadAfterMs, guard } = workerData as AggregatorThreadData;
if (parentPort === null) throw new Error("the aggregator runs in a thread of the coordinator");
const coordinator = parentPort;
/** gradients that have come in this turn of the loop: the coordinator is woken once for them */
let held: { readonly kind: "held"; readonly step: number; readonly ranks: number[] } | null = null;
const tellHeld = () => {
  if (held !== null) coordinator.postMessage(held satisfies ThreadReport);
  held = null;
};
const report = (message: ThreadReport) => {
  if (message.kind !== "held") {
    tellHeld();
    coordinator.postMessage(message);
  } else if (message.step === held?.step) held.ranks.push(...message.ranks);
  else {
    tellHeld();
    held = { ...message, ranks: [...message.ranks] };
    setImmediate(tellHeld);
  }
};

const { layout } = options;
const arena = new VectorArena();
const sharedStates = wire.sharesMemory ? SharedWeights.create(layout, arena) : null;
const spare = spareBytes(layout, demandOf(options));
const buckets = parameterBuckets({ parameters: options.layers, parameterCount: layout.parameterCount });
const gradients = new SharedGradients(layout, arena, spare);
// What it is handed at first is copied, and not kept.
const aggregator = await new Promise<Aggregator>((resolve) => {
  coordinator.once("message", (state: TrainingState) => {
    resolve(new Aggregator({ ...options, buckets }, state, arena, sharedStates ?? undefined));
    // This thread allocates so little that garbage would stay.
    for (const vector of vectorsOf(state)) letGo(vector);
  });
});

const socket = new RouterSocket(workerDataCodec, aggregatorCodec, {
  guard,
  misread: (_peer, error) => {
    plane.misread(error);
  },
  refused: (reason) => {
    report({ kind: "dropped", reason });
  },
  disconnected: () => {
    plane.obey({ kind: "tick" });
  },
});
const now = () => performance.now();
const packed = new PackedWeights(arena, buckets, options.layers, now);
const weights = new WeightsOut(runId, layout, aggregator, packed, wire.weights);
const plane = new DataPlane(runId, deadAfterMs, aggregator, weights, {
  now,
  send: (address, message, frames) => {
    socket.post(address, message, frames, () => {
      plane.unreachable(address);
    });
  },
  report,
  openSegment: (offered) => gradients.open(offered),
  sharedStates,
  digestOf: ({ query, key, queryBuffers }) => sha256OfFloats(query, key, queryBuffers),
});

try {
  report({ kind: "listening", endpoint: await socket.bind(endpoint) });
  coordinator.on("message", (command: ThreadCommand) => {
    if (command.kind === "close") {
      socket.close();
      coordinator.close();
      return;
    }
    try {
      plane.obey(command);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      report({ kind: "failed", code: ORDER_INVALID, message: error.message });
    }
  });
  await socket.listen((peer, message, frames) => {
    plane.received(peer, message, frames);
  });
} catch (error) {
  const { code, message } = error as { code?: unknown; message: string };
  report({ kind: "failed", code: typeof code === "string" ? code : "AGGREGATOR_FAILED", message });
  // A thread that is stopped with its socket open takes the process with it.
  socket.close();
  coordinator.close();
}
