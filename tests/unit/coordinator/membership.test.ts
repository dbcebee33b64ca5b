import { describe, expect, it } from "vitest";
import { MAX_SESSIONS, Membership } from "../../../coordinator/membership.js";
import { PRESETS } from "../../../src/config/index.js";
import { runId } from "../../../src/protocol/identifiers.js";
import { PROTOCOL_VERSION } from "../../../src/protocol/wire.js";

const door = {
  runId: runId("r"),
  config: PRESETS.quickstart,
  softwareVersion: "1.2.3",
  dataPort: 5556,
  manifestHash: "manifest-of-the-run",
};
const hello = { protocolVersion: PROTOCOL_VERSION, softwareVersion: "1.2.3", host: "h", pid: 1, threads: 0 };
const ready = { manifestHash: door.manifestHash, engineFingerprint: "fingerprint-a", device: "cpu" };

function refusalOf(answer: unknown): string {
  return JSON.stringify(answer);
}

describe("the door of the control plane", () => {
  it("welcomes a worker with the config, and admits it when its data and engine fit", () => {
    const membership = new Membership(door, null);
    expect(membership.hello("p", hello)).toMatchObject({ body: "welcome", welcome: { runId: "r", dataPort: 5556 } });
    expect(membership.admitted()).toEqual([]);
    expect(membership.ready("p", ready)).toMatchObject({ admitted: { state: "admitted" } });
    expect(membership.admitted()).toHaveLength(1);
  });

  it.each([
    [{ ...hello, softwareVersion: "1.2.4" }, "install the same version"],
    [{ ...hello, protocolVersion: PROTOCOL_VERSION + 1 }, "install the same version"],
    [{ ...hello, threads: 7 }, "--threads 7"],
  ])("refuses hello %j with the remedy", (given, remedy) => {
    const membership = new Membership(door, null);
    expect(refusalOf(membership.hello("p", given))).toContain(remedy);
    expect(membership.session("p")).toBeUndefined();
  });

  it("refuses another data manifest, naming both", () => {
    const membership = new Membership(door, null);
    membership.hello("p", hello);
    const answer = refusalOf(membership.ready("p", { ...ready, manifestHash: "other-manifest-hash" }));
    expect(answer).toContain("other-manif");
    expect(answer).toContain("manifest-of");
    expect(membership.session("p")).toBeUndefined();
  });

  it("refuses an engine that computes other bits than the first worker's, naming both", () => {
    const membership = new Membership(door, null);
    for (const peer of ["p", "q"]) membership.hello(peer, hello);
    membership.ready("p", ready);
    const answer = refusalOf(membership.ready("q", { ...ready, engineFingerprint: "fingerprint-b" }));
    expect(answer).toContain("fingerprint-b".slice(0, 12));
    expect(answer).toContain("fingerprint-a".slice(0, 12));
  });

  it("refuses ready before hello, and connections past its bound", () => {
    const membership = new Membership(door, null);
    expect(refusalOf(membership.ready("stranger", ready))).toContain("NO_HELLO");
    for (let peer = 0; peer < MAX_SESSIONS; peer++) membership.hello(String(peer), hello);
    expect(refusalOf(membership.hello("one more", hello))).toContain("TOO_MANY_WORKERS");
    membership.forget("0");
    expect(membership.hello("one more", hello).body).toBe("welcome");
  });
});
