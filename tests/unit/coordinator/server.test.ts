import { describe, expect, it } from "vitest";
import { Membership } from "../../../coordinator/membership.js";
import { initialState } from "../../../coordinator/run-state.js";
import { Server, type RunObserver } from "../../../coordinator/server.js";
import { PRESETS } from "../../../src/config/index.js";
import { KeyQueue } from "../../../src/objectives/key-queue.js";
import { runId } from "../../../src/protocol/identifiers.js";
import { PROTOCOL_VERSION, type CoordinatorMessage } from "../../../src/protocol/wire.js";

/** A server that waits for more workers than will come, and what it says to whom. */
function waitingServer() {
  const clock = { now: 0 };
  const said: [peer: string, body: string, reason: string | null | undefined][] = [];
  const door = {
    runId: runId("r"),
    config: PRESETS.quickstart,
    softwareVersion: "1",
    aggregators: [],
    manifestHash: "m",
  };
  const plan = {
    ...{ worldSize: 2, totalSteps: 5, minWorkers: 9, heartbeatMs: 100, deadAfterMs: 500, lateQuantile: 0.9 },
    ...{
      checkpointEverySteps: 0,
      evaluateEverySteps: 0,
      featureChunks: 0,
      nonFinite: "stop" as const,
    },
  };
  const observer = new Proxy({}, { get: () => () => undefined }) as RunObserver;
  const ignore = () => undefined;
  const server = new Server(
    {
      membership: new Membership({ ...door, rounds: [], overlaps: true, newTicket: () => "t" }, null),
      queue: KeyQueue.random(4, 2, 1),
      schedule: { stepsPerEpoch: 5, totalSteps: 5, globalBatch: 2, rates: () => ({ learningRate: 0, keyMomentum: 0 }) },
      keysPerRank: 1,
      initial: initialState(plan, 0),
    },
    {
      now: () => clock.now,
      send: (peer, message: CoordinatorMessage) => {
        const reason = message.body === "finished" ? message.finished.reason : null;
        said.push([peer, message.body ?? "", reason]);
      },
      openEvaluation: () => {
        throw new Error("none is due");
      },
      ...{ command: ignore, classify: ignore, checkpoint: ignore, digest: () => "", countCorrupt: ignore },
      ...{ ended: ignore, observer },
    },
  );
  const hello = (peer: string, process: number, attempt: number) => {
    const instance = process.toString(16).padStart(32, "0");
    const who = { protocolVersion: PROTOCOL_VERSION, softwareVersion: "1", host: "h", pid: 1, threads: 0, instance };
    server.received(peer, { body: "hello", number: 1, hello: { ...who, attempt } }, []);
  };
  const enter = (peer: string, process: number, attempt = 1) => {
    hello(peer, process, attempt);
    server.received(peer, { body: "ready", number: 2, ready: { manifestHash: "m", engineFingerprint: "f" } }, []);
  };
  return { server, clock, said, hello, enter };
}

describe("the end of a run", () => {
  it("is told to those who are here, to those who come back, and waited for by the coordinator", () => {
    const { server, said, hello, enter } = waitingServer();
    enter("a", 1);
    enter("b", 2);
    enter("c", 3);
    server.unreachable("b");
    server.received("c", { body: "goodbye", number: 3, goodbye: { reason: "left" } }, []);
    said.length = 0;
    server.farewell("over");
    expect(said).toEqual([["a", "finished", "over"]]);
    // "c" has left in order: only "b" is missed.
    expect(server.misses).toBe(true);
    hello("b again", 2, 2);
    expect(said.slice(1)).toEqual([["b again", "finished", "over"]]);
    expect(server.misses).toBe(false);
  });

  it("is not held up by who was lost long ago", () => {
    const { server, clock, enter } = waitingServer();
    enter("a", 1);
    server.unreachable("a");
    server.farewell("over");
    clock.now = 29_999;
    expect(server.misses).toBe(true);
    clock.now = 30_000;
    expect(server.misses).toBe(false);
  });
});
