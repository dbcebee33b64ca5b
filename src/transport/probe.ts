/** Loads ZeroMQ and says what it found, as one line of JSON on standard output; see `src/engine/probe.ts`. */
import * as zmq from "zeromq";

export interface TransportReport {
  /** libzmq's version. */
  readonly zeromq: string;
  readonly curve: boolean;
}

const report: TransportReport = { zeromq: zmq.version, curve: zmq.capability.curve === true };
process.stdout.write(`${JSON.stringify(report)}\n`);
