import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ScalingBenchmark } from "../../src/cli/scaling-bench/result.js";
import { ownProcesses, start, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();
const SMALL = [
  ...["--data", "synthetic:size=16,train=400,test=40", "--seed", "7"],
  ...["--set", "data.imageSize=8", "--set", "data.decodeSize=8", "--set", "moco.queueSize=100", "--batch", "8"],
] as const;

/** A run of the command with a folder for temporary files of its own. */
function bench(args: readonly string[]) {
  const temporary = mkdtempSync(join(folder, "tmp-"));
  const running = start(["bench", "scaling", ...SMALL, ...args], folder, { TMPDIR: temporary });
  return { ...running, left: () => readdirSync(temporary) };
}

const sum = (parts: Readonly<Record<string, number>>) => Object.values(parts).reduce((total, part) => total + part, 0);

describe("tandem bench scaling", () => {
  it("gives figures that agree with each other, and a report that needs nothing else", async () => {
    const peer = `echo '{"images_per_s": '$(({workers} * 90 + 10))'}'`;
    const args = ["--rounds", "2", "--steps", "4", "--warmup", "1", "--peer", peer, "--json"];
    const { ended, left } = bench([...args, "--report", "scaling.html"]);
    const { code, stdout, stderr } = await ended;
    expect(code, stderr).toBe(0);
    expect(left()).toEqual([]);
    const result = JSON.parse(stdout) as ScalingBenchmark;
    expect(result).toMatchObject({ encoder: "resnet-tiny", batch: 8, rounds: 2, steps: 4, warmup: 1 });
    expect(result.scaling.map(({ kind }) => kind)).toEqual(["weak", "strong"]);
    const [weak, strong] = result.scaling;
    expect(weak.rows.map(({ workers, worldSize }) => [workers, worldSize])).toEqual([[1, 1], [2, 2]]); // prettier-ignore
    expect(strong.rows.map(({ workers, worldSize }) => [workers, worldSize])).toEqual([[1, 2], [2, 2]]); // prettier-ignore
    // Two workers for two ranks are of both kinds, and measured once.
    expect(strong.rows[1].imagesPerSecond).toEqual(weak.rows[1].imagesPerSecond);
    for (const { kind, rows, laws } of result.scaling) {
      for (const { workers, worldSize, ...row } of rows) {
        expect(sum(row.parts)).toBeCloseTo(row.meanMs, 6);
        expect(sum(row.lost)).toBeCloseTo(row.lostMs, 6);
        expect(row.lostMs).toBeCloseTo(row.meanMs - rows[0].meanMs / (kind === "weak" ? 1 : workers), 6);
        expect((1000 * 8 * worldSize) / row.stepMs.lowest).toBeCloseTo(row.imagesPerSecond.highest, 6);
        expect(row.efficiency.median).toBeCloseTo(row.speedUp.median / workers, 9);
      }
      expect(laws.map(({ law, serial }) => [law, serial.low])).toEqual([["Amdahl", null]]);
    }
    expect(result.peer?.rows.map(({ efficiency }) => efficiency.median)).toEqual([1, 0.95]);
    expect(result.notes.join(" ")).toContain("The USL needs 3 different numbers of workers");

    const report = readFileSync(join(folder, "scaling.html"), "utf8");
    expect(report).toMatch(/^<!doctype html>/);
    expect(report).not.toMatch(/https?:|<script|<link|<img|@import|url\(|\bsrc=/);
    expect(report.match(/<svg/g)).toHaveLength(7);
    for (const tag of ["section", "table", "figure", "svg", "pre"]) {
      expect(report.split(`<${tag}`).length, tag).toBe(report.split(`</${tag}>`).length);
    }
    // The config that follows says what to do about NaN.
    expect(report.split("To repeat it")[0]).not.toMatch(/NaN|Infinity|undefined/);
    expect(report).toContain("npx tandem bench scaling --data synthetic:size=16,train=400,test=40");
    expect(report).toContain("batchSize: 8");
  });

  it("tells a step that computes for a known time from what is around it", async () => {
    const synthetic = ["--set", "engine.mode=synthetic", "--set", "engine.synthetic.rankMs=40"];
    const args = [...synthetic, "--scaling", "strong", "--world-size", "4", "--workers", "1,2", "--rounds", "1"];
    const { code, stdout, stderr } = await bench([...args, "--steps", "4", "--warmup", "1", "--json"]).ended;
    expect(code, stderr).toBe(0);
    const { rows } = (JSON.parse(stdout) as ScalingBenchmark).scaling[0];
    // Four ranks of 40 ms each; a clock may be late, never early.
    expect(rows[0].meanMs).toBeGreaterThanOrEqual(160);
    expect(rows[1].meanMs).toBeGreaterThanOrEqual(80);
    expect(rows[1].meanMs).toBeLessThan(rows[0].meanMs);
    expect(rows[1].lost.load).toBe(0);
  });

  it.each(["SIGINT", "SIGTERM"] as const)("leaves no process and no file when %s stops it", async (name) => {
    const { process: child, ended, left, stderr } = bench(["--steps", "100000", "--scaling", "strong"]);
    await expect.poll(() => ownProcesses(child.pid, "worker").length, { timeout: 20_000 }).toBeGreaterThan(0);
    const workers = ownProcesses(child.pid, "worker");
    expect(left()).toHaveLength(1);
    child.kill(name);
    expect((await ended).code, stderr()).toBe(1);
    expect(stderr()).toBe(`tandem: stopped by ${name} before all was measured: nothing is reported\n`);
    expect(workers.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
    expect(left()).toEqual([]);
  });

  it("leaves none either when a worker is killed, and says so", async () => {
    const { process: child, ended, left, stderr } = bench(["--steps", "100000", "--scaling", "strong"]);
    await expect.poll(() => ownProcesses(child.pid, "worker").length, { timeout: 20_000 }).toBe(1);
    const [worker] = ownProcesses(child.pid, "worker");
    process.kill(worker, "SIGKILL");
    expect((await ended).code).toBe(1);
    expect(stderr()).toContain("tandem: worker-1 has ended with SIGKILL");
    expect(left()).toEqual([]);
  });

  it("ends a peer with all that it has started", async () => {
    const peer = "sleep 4711 & echo $! > peer-pid; wait # {workers}";
    const args = ["--workers", "1", "--rounds", "1", "--steps", "1", "--warmup", "0", "--peer", peer];
    const { process: child, ended } = bench(args);
    const pid = () =>
      existsSync(join(folder, "peer-pid")) ? readFileSync(join(folder, "peer-pid"), "utf8").trim() : "";
    await expect.poll(pid, { timeout: 20_000 }).not.toBe("");
    child.kill("SIGTERM");
    expect((await ended).code).toBe(1);
    const command = `/proc/${pid()}/cmdline`;
    // Whom nobody has waited for stays as a name without a command line.
    await expect.poll(() => (existsSync(command) ? readFileSync(command, "utf8") : "")).toBe("");
  });

  it.each([
    [["--workers", "0"], "--workers 0: give whole numbers from 1 to 64, as 1,2,4"],
    [["--workers", "a,b"], "--workers a,b: give whole numbers"],
    [["--workers", ""], "--workers : give whole numbers"],
    [["--workers", "1,1"], "--workers 1,1: 1 is there twice"],
    [["--workers", "2,4"], "--workers 2,4: put 1 in front"],
    [["--rounds", "0"], "--rounds 0: give a whole number from 1 on"],
    [["--steps", "1.5"], "--steps 1.5: give a whole number from 1 on"],
    [["--warmup", "-1"], "--warmup -1: give a whole number from 0 on"],
    [["--world-size", "1"], "--world-size 1: 2 workers need a rank each, give 2 or more"],
    [["--report", "nowhere/a.html"], "--report nowhere/a.html: there is no folder nowhere: make it first"],
    [["--report", "."], "--report .: that is a folder: name a file in it"],
    [["--set", "parallel.batchSize=60"], "moco.queueSize = 100 is smaller than the global batch of 120"],
    [
      ["--set", "parallel.batchSize=40", "--set", "data.spec=synthetic:train=60"],
      "the global batch of 80 (--world-size × --batch) is larger than the data set of 60",
    ],
    [["--device", "tpu"], "--device tpu: give auto, cpu, or gpu:N"],
    [["--peer", "./train.sh"], "--peer ./train.sh: say where the number of workers goes, with {workers}"],
    [["--peer", "./train.sh {workers} {nodes}"], "--peer: {nodes} is not known; there are {workers}"],
    [["--peer", "./train.sh {workers}", "--scaling", "strong"], "--peer is measured in weak scaling"],
  ])("refuses %j in one line, before it measures", async (args, part) => {
    const { code, stderr } = await bench(args).ended;
    expect(stderr).toContain(part);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(code).toBe(2);
  });

  it.each([
    ["echo no such world >&2; exit 3 # {workers}", "it has ended with 3: no such world"],
    ["echo {workers}", "its last line has to be JSON with images/s"],
  ])("says in one line what is wrong with the peer %j", async (peer, part) => {
    const args = ["--workers", "1", "--rounds", "1", "--steps", "1", "--warmup", "0", "--peer", peer];
    const { code, stderr } = await bench(args).ended;
    expect(stderr).toContain(`tandem: --peer, with 1 workers: ${part}`);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(code).toBe(2);
  });
});
