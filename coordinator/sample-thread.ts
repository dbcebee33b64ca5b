/** The thread of the samples plane: the data set, and the socket of workers that have none. */
import { parentPort, workerData } from "node:worker_threads";
import { openDataset } from "../src/data/index.js";
import { UserError } from "../src/protocol/errors.js";
import { sampleCodec, sampleRequestCodec } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { RouterSocket, type Guard } from "../src/transport/index.js";
import type { FirstReport } from "./plane-thread.js";
import { MOST_REQUEST_BYTES, SampleServer } from "./sample-server.js";

export interface SampleThreadData {
  readonly spec: string;
  /** side that images are decoded to, in pixels */
  readonly decodeSize: number;
  readonly runId: string;
  readonly endpoint: string;
  /** null: whoever reaches the port may ask */
  readonly guard: Guard | null;
}

export type SampleReport = FirstReport | { readonly kind: "dropped"; readonly peer: string; readonly reason: string };

const { spec, decodeSize, runId, endpoint, guard } = workerData as SampleThreadData;
if (parentPort === null) throw new Error("the samples plane runs in a thread of the coordinator");
const coordinator = parentPort;
const report = (message: SampleReport) => {
  coordinator.postMessage(message);
};
const drop = (peer: string, { message }: WireError) => {
  report({ kind: "dropped", peer, reason: message });
};

const socket = new RouterSocket(sampleRequestCodec, sampleCodec, {
  guard,
  misread: drop,
  mostBytes: MOST_REQUEST_BYTES,
  refused: (reason) => {
    report({ kind: "dropped", peer: "", reason });
  },
  // Whoever is gone shows when it is sent something.
  disconnected: () => undefined,
});
try {
  const dataset = await openDataset(spec, { decodeSize });
  const server = new SampleServer(
    dataset,
    decodeSize,
    runId,
    (peer, message, frames) => {
      socket.post(peer, message, frames, () => {
        server.gone(peer);
      });
    },
    ({ code, message }) => {
      report({ kind: "failed", code, message });
    },
  );
  report({ kind: "listening", endpoint: await socket.bind(endpoint) });
  coordinator.once("message", () => {
    socket.close();
    coordinator.close();
  });
  await socket.listen((peer, message) => {
    try {
      server.received(peer, message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      drop(peer, error);
    }
  });
} catch (error) {
  const { message } = error as Error;
  report({ kind: "failed", code: error instanceof UserError ? error.code : "SAMPLES_FAILED", message });
  socket.close();
  coordinator.close();
}
