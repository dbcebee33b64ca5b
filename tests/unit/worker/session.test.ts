/** A worker's session at its edges; what it does under every weather is simulated (tests/simulation). */
import { expect, it } from "vitest";
import { PRESETS } from "../../../src/config/presets.js";
import { WorkerSession } from "../../../worker/session.js";
import type { SessionPorts } from "../../../worker/session-ports.js";

it("opens no connection where its engine is up only after the run's end", () => {
  const called: string[] = [];
  const ports = new Proxy({} as SessionPorts, {
    get: (_, name: string) => () => {
      called.push(name);
      return 0;
    },
  });
  const hello = {
    ...{ protocolVersion: 1, softwareVersion: "1", host: "h", pid: 1, threads: 0, instance: "0".repeat(32) },
  };
  const session = new WorkerSession({ endpoint: "tcp://127.0.0.1:1", hello, patienceMs: 1000 }, ports);
  session.start();
  const welcome = {
    runId: "r",
    workerId: "w",
    configJson: JSON.stringify(PRESETS.quickstart),
    aggregators: [{ port: 2 }],
    ticket: "t",
  };
  session.heard(1, { body: "welcome", welcome, number: 1 }, []);
  session.heard(1, { body: "finished", finished: { reason: "the run has finished" }, number: 2 }, []);
  expect(called).toContain("ended");
  session.prepared({
    ...{ manifestHash: "m", splitLengths: { train: 1, test: 0 }, engineFingerprint: "e", device: "cpu", rounds: [] },
    devices: 1,
    tensors: 1,
    takesBfloat16: false,
  });
  expect(called).not.toContain("openData");
});
