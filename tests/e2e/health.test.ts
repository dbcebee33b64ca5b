/** What a supervisor's probes are told by each process, from its start to its part in the run. */
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Health } from "../../src/telemetry/index.js";
import { SMALL_RUN, start, tandem, temporaryFolder, type Running } from "./tandem.js";

const folder = temporaryFolder();

async function probe(running: Running, path: string): Promise<readonly [number, string] | null> {
  const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(running.stderr()) ?? [];
  if (address === undefined) return null;
  const response = await fetch(`${address}${path}`);
  return [response.status, await response.text()];
}

const says = (running: Running, path: string, answer: readonly [number, string]) =>
  vi.waitFor(async () => {
    expect(await probe(running, path), running.stderr()).toEqual(answer);
  }, 30_000);

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

describe("--health", { timeout: 90_000 }, () => {
  it("says of worker, aggregator and coordinator what each waits for, and when it is ready", async () => {
    const connect = `tcp://127.0.0.1:${String(await freePort())}`;
    const own = ["--connect", connect, "--health", "127.0.0.1:0"];
    const worker = start(["worker", ...own]);
    await says(worker, "/readyz", [503, `looking for the coordinator at ${connect}\n`]);
    await says(worker, "/livez", [200, "ok\n"]);
    await says(worker, "/metric", [404, "there are /livez, /readyz and /metrics\n"]);

    const run = ["--listen", connect, "--aggregators", "1", "--steps", "100000", "--set", "membership.minWorkers=1"];
    const out = join(folder, "run");
    const coordinator = start(["coordinator", ...SMALL_RUN, ...run, "--health", "127.0.0.1:0", "--out", out]);
    await says(coordinator, "/readyz", [503, "waiting for aggregators\n"]);
    const aggregator = start(["aggregator", ...own]);
    for (const running of [coordinator, aggregator, worker]) {
      await says(running, "/readyz", [200, "ok\n"]);
      await says(running, "/livez", [200, "ok\n"]);
    }
    // Whoever is no longer there answers nothing, and nobody stays for it.
    coordinator.process.kill("SIGTERM");
    for (const running of [coordinator, worker, aggregator]) expect((await running.ended).code).toBe(0);
  });

  it.each([
    ["8080", "write HOST:PORT, e.g. 0.0.0.0:8080"],
    ["127.0.0.1:99999", "write HOST:PORT, e.g. 0.0.0.0:8080"],
    ["127.0.0.1:x", "write HOST:PORT, e.g. 0.0.0.0:8080"],
  ])("refuses %s", async (address, remedy) => {
    const { code, stderr } = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--health", address]);
    expect([code, stderr]).toEqual([2, `tandem: --health ${address} is no address: ${remedy}\n`]);
  });

  it("refuses an address that is not this machine's", async () => {
    const { code, stderr } = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--health", "192.0.2.77:8080"]);
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(
        /^tandem: --health 192\.0\.2\.77:8080: .*; give an address of this machine, e\.g\. 0\.0\.0\.0:8080/,
      ),
    ]);
  });

  it("refuses a port that is in use", async () => {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    const { code, stderr } = await tandem(["worker", "--connect", "tcp://127.0.0.1:1", "--health", address]);
    server.close();
    expect([code, stderr]).toEqual([2, `tandem: --health ${address}: the port is in use, choose another\n`]);
  });
});

it("a loop that has not turned for half a minute hangs, and is not ready either", () => {
  let now = 0;
  const health = new Health(() => now);
  expect([health.hangs, health.isMissing]).toEqual([null, "starting"]);
  health.turned(null);
  now = 30_000;
  expect([health.hangs, health.isMissing]).toEqual([null, null]);
  now = 30_001;
  const reason = "the heartbeat loop has not turned for 30 s";
  expect([health.hangs, health.isMissing]).toEqual([reason, reason]);
});
