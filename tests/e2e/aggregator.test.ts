/** `tandem aggregator` as its operator meets it: bad input, keys, and a run that it joins by hand. */
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { freePorts } from "./chaos.js";
import { checkpointOf, eventsOf, SMALL_RUN, start, tandem, stepsOf, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const LISTEN = "tcp://127.0.0.1:5555";

describe("tandem aggregator", () => {
  it.each([
    [[], "connect"],
    [["--connect", "10.0.0.5"], "--connect 10.0.0.5 is no address"],
    [["--connect", LISTEN, "--listen", "tcp://127.0.0.1"], "--listen tcp://127.0.0.1 is no address"],
    [["--connect", LISTEN, "--listen", "tcp://0.0.0.0:*"], "tcp://0.0.0.0:* can be reached from other machines"],
    [["--connect", LISTEN, "--advertise", "host:1"], "--advertise host:1: give a name or an address, without a port"],
    [["--connect", LISTEN, "--patience", "-1"], "--patience wants a number of seconds"],
    [["--connect", LISTEN, "--keys", "/nowhere"], "cannot read /nowhere/secret.key"],
    [
      ["--connect", "tcp://no-such-host.invalid:5555", "--patience", "1"],
      "there is no way to tcp://no-such-host.invalid:5555",
    ],
  ])("refuses %j in one line", async (args, part) => {
    const { code, stderr } = await tandem(["aggregator", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  it("gives up where nobody answers, and goes at once where it is asked to", async () => {
    const port = await freePorts();
    const flags = ["aggregator", "--connect", `tcp://127.0.0.1:${port}`];
    const ended = await tandem([...flags, "--patience", "0"]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("start it with --aggregators, or check the address and --keys");
    const waiting = start(flags);
    await vi.waitUntil(() => waiting.stderr().includes("looking for"), { timeout: 20_000 });
    waiting.process.kill("SIGTERM");
    expect((await waiting.ended).code).toBe(0);
  });

  it("waits for the coordinator's name to be known, is live meanwhile, and leaves when asked to", async () => {
    const flags = ["--connect", "tcp://no-such-host.invalid:5555", "--health=127.0.0.1:0", "--exit-when-drained=143"];
    const waiting = start(["aggregator", ...flags]);
    await vi.waitUntil(() => waiting.stderr().includes("health at"), { timeout: 20_000 });
    const [address = ""] = /http:\/\/127\.0\.0\.1:\d+/.exec(waiting.stderr()) ?? [];
    await vi.waitFor(async () => {
      const ready = await fetch(`${address}/readyz`);
      expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("no-such-host.invalid")]);
    }, 20_000);
    waiting.process.kill("SIGTERM");
    expect((await waiting.ended).code, waiting.stderr()).toBe(143);
  });

  it(
    "serves a run with keys, one that leaves and one in its place, to the same bits",
    { timeout: 120_000 },
    async () => {
      const flags = [...SMALL_RUN, "--steps", "40"];
      const calm = join(folder, "calm");
      expect((await tandem(["train", ...flags, "--workers", "1", "--out", calm])).code).toBe(0);

      const [keys, out] = [join(folder, "keys"), join(folder, "run")];
      expect((await tandem(["keys", "new", "--out", keys, "--worker", "a", "b", "stranger"])).code).toBe(0);
      const connect = `tcp://127.0.0.1:${await freePorts()}`;
      const served = ["--listen", connect, "--keys", join(keys, "coordinator"), "--out", out, "--aggregators", "2"];
      const coordinator = start(["coordinator", ...flags, ...served]);
      const aggregate = (name: string) =>
        start(["aggregator", "--connect", connect, "--keys", join(keys, name), "--name", name]);
      const [first, second] = [aggregate("a"), aggregate("b")];
      const worker = start(["worker", "--connect", connect, "--keys", join(keys, "a")]);
      const stepsDone = () => stepsOf(out);
      await vi.waitUntil(() => stepsDone() >= 5, { timeout: 60_000, interval: 20 });
      const third = aggregate("b");
      first.process.kill("SIGTERM");
      for (const member of [first, second, third, worker, coordinator])
        expect((await member.ended).code, member.stderr()).toBe(0);
      expect(first.stderr()).toContain("was asked to stop");
      // It had the state stored before it went.
      expect(stepsDone()).toBe(40);
      expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
    },
  );

  it("is not let in without a key that the coordinator knows", { timeout: 60_000 }, async () => {
    const [keys, others] = [join(folder, "keys-of-one"), join(folder, "keys-of-another")];
    for (const place of [keys, others]) expect((await tandem(["keys", "new", "--out", place])).code).toBe(0);
    const [out, port] = [join(folder, "closed"), await freePorts()];
    const served = ["--listen", `tcp://127.0.0.1:${port}`, "--keys", join(keys, "coordinator"), "--out", out];
    const coordinator = start(["coordinator", ...SMALL_RUN, "--steps", "4", ...served, "--aggregators", "1"]);
    await vi.waitUntil(() => coordinator.stderr().includes("waiting: 0 of 1"), { timeout: 30_000 });
    const connect = ["aggregator", "--connect", `tcp://127.0.0.1:${port}`, "--patience", "0"];
    for (const own of [[], ["--keys", join(others, "worker")]])
      expect((await tandem([...connect, ...own])).code).toBe(2);
    expect(eventsOf(out).some(({ kind }) => kind === "step")).toBe(false);
    expect(coordinator.stderr()).not.toContain("waiting: 1 of 1");
    coordinator.process.kill("SIGTERM");
    expect((await coordinator.ended).code, coordinator.stderr()).toBe(0);
  });
});
