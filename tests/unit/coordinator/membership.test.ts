import { describe, expect, it } from "vitest";
import { MAX_SESSIONS, Membership, type Session } from "../../../coordinator/membership.js";
import { PRESETS, type RunConfig } from "../../../src/config/index.js";
import { runId } from "../../../src/protocol/identifiers.js";
import { PROTOCOL_VERSION, type Hello } from "../../../src/protocol/wire.js";

const door = (config: RunConfig = PRESETS.quickstart) => ({
  runId: runId("r"),
  config,
  softwareVersion: "1.2.3",
  manifestHash: "manifest-of-the-run",
  rounds: null,
  overlaps: true,
  newTicket: () => "a ticket",
});
/** Of the process with this number, its attempt to connect with that one. */
const hello = (process = 1, attempt = 1): Hello => ({
  ...{ protocolVersion: PROTOCOL_VERSION, softwareVersion: "1.2.3", host: "h", pid: 1, threads: 0 },
  ...{ instance: process.toString(16).padStart(32, "0"), attempt },
});
const ready = { manifestHash: "manifest-of-the-run", engineFingerprint: "fingerprint-a", device: "cpu" };

function enter(membership: Membership, peer: string, given: Hello, now = 0): Session {
  expect(membership.refusalOf(given)).toBeNull();
  return membership.welcome(peer, given, now).session;
}

const refusalOf = (answer: unknown) => JSON.stringify(answer);

describe("the door of the control plane", () => {
  it("welcomes a worker with the config, and admits it when its data and engine fit", () => {
    const membership = new Membership(door(), null, [{ port: 5556 }]);
    const { session, answer } = membership.welcome("p", hello(), 0);
    expect(answer).toMatchObject({
      body: "welcome",
      welcome: { runId: "r", aggregators: [{ port: 5556 }], ticket: "a ticket" },
    });
    expect(session.isAdmitted).toBe(false);
    expect(membership.ready(session, ready)).toEqual({ differs: null });
    expect(session.isAdmitted).toBe(true);
  });

  it.each([
    [{ ...hello(), softwareVersion: "1.2.4" }, "install the same version"],
    [{ ...hello(), protocolVersion: PROTOCOL_VERSION - 1 }, "install the same version"],
    [{ ...hello(), threads: 7 }, "--threads 7"],
    [{ ...hello(), instance: "me" }, "REPLAYED_HELLO"],
    [{ ...hello(), attempt: 0 }, "REPLAYED_HELLO"],
  ])("refuses hello %j with the remedy", (given, remedy) => {
    expect(refusalOf(new Membership(door(), null).refusalOf(given))).toContain(remedy);
  });

  it("refuses a hello that is played again, also after its session is over", () => {
    const membership = new Membership(door(), null);
    const session = enter(membership, "p", hello(1, 3));
    for (const attempt of [1, 2, 3]) {
      expect(refusalOf(membership.refusalOf(hello(1, attempt)))).toContain("been here before");
    }
    membership.forget(session);
    expect(membership.refusalOf(hello(1, 3))).not.toBeNull();
    expect(membership.refusalOf(hello(1, 4))).toBeNull();
  });

  it("knows a process that connects anew by the name that it had", () => {
    const membership = new Membership(door(), null);
    const before = enter(membership, "p", hello(1, 1));
    enter(membership, "q", hello(2, 1));
    expect(membership.sessionOfInstance(hello(1).instance ?? "")).toBe(before);
    membership.forget(before);
    const after = enter(membership, "r", hello(1, 2));
    expect(after.id).toBe(before.id);
    // What is late of the connection before takes nothing away.
    membership.forget(before);
    expect(membership.sessionOf(after.id)).toBe(after);
  });

  it("refuses another data manifest, naming both", () => {
    const membership = new Membership(door(), null);
    const session = enter(membership, "p", hello());
    const answer = refusalOf(membership.ready(session, { ...ready, manifestHash: "other-manifest-hash" }));
    expect(answer).toContain("other-manif");
    expect(answer).toContain("manifest-of");
    expect(membership.session("p")).toBeUndefined();
  });

  it("refuses an engine that computes other bits than the first worker's, naming both", () => {
    const membership = new Membership(door(), null);
    membership.ready(enter(membership, "p", hello(1)), ready);
    const other = { ...ready, engineFingerprint: "fingerprint-b" };
    const answer = refusalOf(membership.ready(enter(membership, "q", hello(2)), other));
    expect(answer).toContain("fingerprint-b".slice(0, 12));
    expect(answer).toContain("fingerprint-a".slice(0, 12));
    expect(membership.isMixed).toBe(false);
  });

  it("admits it where mixed hardware is allowed, and remembers that", () => {
    const config = structuredClone<RunConfig>(PRESETS.quickstart);
    config.membership.allowMixedHardware = true;
    const membership = new Membership(door(config), "fingerprint-a");
    const session = enter(membership, "p", hello(1));
    const answer = membership.ready(session, { ...ready, engineFingerprint: "fingerprint-b" });
    expect(refusalOf(answer)).toContain("fingerprint-a".slice(0, 12));
    expect(session.isAdmitted).toBe(true);
    expect(membership.isMixed).toBe(true);
  });

  it("takes the rounds of a step from its first worker, and refuses one with others", () => {
    const membership = new Membership(door(), null);
    expect(membership.rounds).toEqual([]);
    membership.ready(enter(membership, "p", hello(1)), { ...ready, rounds: [8, 3] });
    expect(membership.rounds).toEqual([8, 3]);
    const answer = membership.ready(enter(membership, "q", hello(2)), { ...ready, rounds: [8] });
    expect(refusalOf(answer)).toContain("ROUNDS_MISMATCH");
    expect(membership.ready(enter(membership, "q", hello(2, 2)), { ...ready, rounds: [8, 3] })).toEqual({
      differs: null,
    });
  });

  it("knows the rounds of a run without SyncBN by itself", () => {
    const membership = new Membership({ ...door(), rounds: [8] }, null);
    expect(refusalOf(membership.ready(enter(membership, "p", hello(1)), ready))).toContain("ROUNDS_MISMATCH");
    expect(membership.rounds).toEqual([8]);
  });

  it.each([[[2 ** 24]], [Array<number>(4096).fill(1)]])("takes rounds at their bounds (%#)", (rounds) => {
    const membership = new Membership(door(), null);
    expect(membership.ready(enter(membership, "p", hello()), { ...ready, rounds })).toEqual({ differs: null });
  });

  it.each([[[2 ** 24 + 1]], [Array<number>(4097).fill(1)], [[0]]])("refuses rounds past them (%#)", (rounds) => {
    const membership = new Membership(door(), null);
    const answer = membership.ready(enter(membership, "p", hello()), { ...ready, rounds });
    expect(refusalOf(answer)).toContain("ROUNDS_MISMATCH");
    expect(membership.rounds).toEqual([]);
  });

  it("refuses connections past its bound", () => {
    const membership = new Membership(door(), null);
    const sessions = Array.from({ length: MAX_SESSIONS }, (_, process) =>
      enter(membership, String(process), hello(process)),
    );
    expect(refusalOf(membership.refusalOf(hello(MAX_SESSIONS)))).toContain("TOO_MANY_WORKERS");
    // A process that is here takes its own place.
    expect(membership.refusalOf(hello(1, 2))).toBeNull();
    membership.forget(sessions[0]);
    expect(membership.refusalOf(hello(MAX_SESSIONS))).toBeNull();
  });

  it("finds those who are silent before they are ready", () => {
    const membership = new Membership(door(), null);
    const silent = enter(membership, "p", hello(1), 0);
    membership.ready(enter(membership, "q", hello(2), 0), ready);
    expect(membership.silent(100, 100)).toEqual([]);
    expect(membership.silent(101, 100)).toEqual([silent]);
  });
});
