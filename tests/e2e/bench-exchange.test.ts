import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { PROGRAM, tandem } from "./tandem.js";

/** Whether this user may mount a file system for a process of his own. */
const mayMount = spawnSync("unshare", ["-rm", "true"]).status === 0;

describe("tandem bench exchange", () => {
  it.each([
    ["--shared-memory", true],
    ["--no-shared-memory", false],
  ])("with %s leaves every worker with the aggregator's weights, or fails", async (flag, sharedMemory) => {
    const args = ["--workers", "1,3", "--params", "1500001", "--rounds", "2", "--warmup", "0", "--json", flag];
    const { code, stdout, stderr } = await tandem(["bench", "exchange", ...args]);
    expect(code, stderr).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual(
      [1, 3].map((workers) => ({
        ...{ workers, params: 1_500_001, sharedMemory, aggregators: null },
        busiestBytes: sharedMemory ? 0 : 8 * workers * 1_500_001,
        // A gradient out; θq in, from which a worker has θk.
        ...(sharedMemory
          ? { bytesSent: 0, bytesReceived: 0 }
          : { bytesSent: 4 * 1_500_001, bytesReceived: 4 * 1_500_001 }),
        ...{ medianMs: expect.any(Number), bestMs: expect.any(Number), rssBytes: expect.any(Number) },
      })),
    );
  });

  it.each([
    ["2", 2],
    ["per-worker", 3],
  ])("has fewer bytes at the busiest machine with --aggregators %s", async (flag, aggregators) => {
    const args = ["--workers", "3", "--params", "1500001", "--rounds", "2", "--warmup", "0", "--json"];
    const bench = ["bench", "exchange", ...args, "--no-shared-memory", "--aggregators", flag];
    const { code, stdout, stderr } = await tandem(bench);
    expect(code, stderr).toBe(0);
    const result = JSON.parse(stdout) as Record<string, number>;
    expect(result).toMatchObject({ aggregators, bytesSent: 4 * 1_500_001, bytesReceived: 4 * 1_500_001 });
    // All of 24 bytes a parameter pass through one machine where one aggregates; tensor borders allow no equal shares.
    expect(result["busiestBytes"]).toBeLessThan(0.75 * 24 * 1_500_001);
    expect(result["busiestBytes"]).toBeGreaterThan(0.4 * 24 * 1_500_001);
  });

  it("works over memory that workers and aggregators share", async () => {
    const args = ["--workers", "2", "--params", "1500001", "--rounds", "2", "--warmup", "0", "--json"];
    const { code, stdout, stderr } = await tandem(["bench", "exchange", ...args, "--aggregators", "per-worker"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ sharedMemory: true, busiestBytes: 0 });
  });

  it("leaves them between network namespaces of a known bandwidth, where they can be made", () => {
    const program = fileURLToPath(new URL("../bench/network.mjs", import.meta.url));
    const args = [program, "--params", "1000000", "--rounds", "1", "--gbits", "1"];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(status, stderr).toBe(0);
    if (stderr.includes("skipped")) process.stdout.write(stderr);
    else expect(stdout.match(/1 Gbit\/s: \d+ ms/g)).toHaveLength(2);
  });

  // Room for nothing, for gradients of some, for those of all but not every version's weights, and for everything.
  it.skipIf(!mayMount).each([4, 16, 40, 100])(
    "leaves them with %i MiB of /dev/shm, which is another for each",
    (size) => {
      const bench = [
        process.execPath,
        PROGRAM,
        "bench",
        "exchange",
        "--workers",
        "3",
        "--params",
        "1500001",
        "--rounds",
        "3",
      ];
      const mount = `mount -t tmpfs -o size=${size}m tmpfs /dev/shm && exec "$@"`;
      const { status, stderr } = spawnSync("unshare", ["-rm", "sh", "-c", mount, "sh", ...bench], { encoding: "utf8" });
      expect(status, stderr).toBe(0);
    },
  );

  it.each([
    [["--workers", "2,x"], "--workers 2,x: give whole numbers from 1 to 64, as 2,4,8"],
    [["--workers", "65"], "--workers 65: give whole numbers"],
    [["--workers", ""], "--workers"],
    [["--aggregators", "0"], "--aggregators 0: give embedded, a number of processes, or per-worker"],
    [["--aggregators", "some"], "--aggregators some: give embedded"],
    [["--aggregators", "100", "--params", "1000"], "--aggregators 100: the parameters are cut at tensor borders"],
    [["--workers", "8", "--params", "300000000"], "300000000 parameters need 12."],
    [["--workers", "8", "--params", "300000000", "--aggregators", "3"], "ends at 4 GiB: use --aggregators 4 or more"],
    [["--params", "0"], "--params 0: give a whole number from 1 on"],
    [["--rounds", "0.5"], "--rounds 0.5: give a whole number from 1 on"],
    [["--warmup", "-1"], "--warmup -1: give a whole number from 0 on"],
  ])("refuses %j in one line", async (args, part) => {
    const { code, stderr } = await tandem(["bench", "exchange", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});
