/** `tandem simulate`: the curves, the words and the report of runs on machines that are not there. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SMALL_RUN, tandem, temporaryFolder } from "./tandem.js";

const folder = temporaryFolder();

interface Told {
  readonly points: readonly {
    arrangement: string;
    devices: number;
    aggregators: number;
    stepMs: number;
    efficiency: number;
  }[];
  readonly recommendation: { readonly words: readonly string[] };
}

it("shows curves, a recommendation and a report that needs nothing else", async () => {
  const report = join(folder, "report.html");
  const machines = ["--devices", "1,8,16", "--devices-per-machine", "8", "--samples", "1281167", "--price", "2.5"];
  const flags = ["--preset", "imagenet", "--rank-ms", "310", ...machines, "--failures", "0.1", "--report", report];
  const { code, stdout, stderr } = await tandem(["simulate", ...flags]);
  expect(code, stderr).toBe(0);
  const rows = stdout.split("\n\n")[0]?.split("\n") ?? [];
  expect(rows.map((row) => row.split(/ {2,}/)[0])).toEqual([
    ...["aggregation", "embedded", "embedded", "embedded", "sharded (1)", "sharded (1)", "sharded (2)"],
    ...["hierarchical (1)", "hierarchical (1)", "hierarchical (2)"],
  ]);
  expect(stdout).toMatch(
    /\nTake (one device|\d+ devices) with .*: \d+ images\/s, \d+% efficiency, .* an epoch, at a price of \d+\.\d\d\.\n/,
  );
  const html = readFileSync(report, "utf8");
  expect(html.match(/<svg /g)).toHaveLength(3);
  expect(html).toContain("tandem simulate --preset imagenet --rank-ms 310");
  // The names of SVG and HTML are no addresses that anything is fetched from.
  expect(html).not.toMatch(/(src|href)=|@import|url\(/);
});

it("takes a run's own config and times", { timeout: 60_000 }, async () => {
  const run = join(folder, "run");
  const own = ["--set=engine.mode=synthetic", "--set=engine.synthetic.rankMs=30", "--steps=12", "--ui=off"];
  expect((await tandem(["train", ...SMALL_RUN, ...own, "--workers=2", "--out", run])).code).toBe(0);
  const { code, stdout, stderr } = await tandem(["simulate", run, "--devices", "1,2", "--gbits", "100", "--json"]);
  expect(code, stderr).toBe(0);
  const { points } = JSON.parse(stdout) as Told;
  expect(points.map(({ arrangement, devices }) => [arrangement, devices])).toEqual([
    ...[["embedded", 1], ["embedded", 2], ["sharded", 1], ["sharded", 2]], // prettier-ignore
  ]);
  for (const { stepMs } of points) {
    expect(stepMs).toBeGreaterThan(29);
    expect(stepMs).toBeLessThan(60);
  }
});

it("takes no times of a run that has not made a step", async () => {
  const empty = join(folder, "empty");
  mkdirSync(empty);
  copyFileSync(join(folder, "run", "config.yaml"), join(empty, "config.yaml"));
  const { code, stderr } = await tandem(["simulate", empty]);
  expect([code, stderr]).toEqual([
    2,
    `tandem: ${empty} has 0 steps, and a profile takes 10: let it train longer, or give --rank-ms instead\n`,
  ]);
});

it("simulates 1,024 devices", { timeout: 120_000 }, async () => {
  const devices = ["--devices", "128,1024", "--devices-per-machine", "8", "--aggregation", "hierarchical"];
  const { code, stdout, stderr } = await tandem([
    "simulate",
    "--preset",
    "imagenet",
    "--rank-ms",
    "310",
    ...devices,
    "--json",
  ]);
  expect(code, stderr).toBe(0);
  const [fewer, all] = (JSON.parse(stdout) as Told).points;
  expect([fewer?.aggregators, all?.aggregators]).toEqual([16, 32]);
  expect(all?.efficiency).toBeLessThan(fewer?.efficiency ?? 0);
});

it.each([
  [[], "how long a rank takes is not known: name a run's directory, or give --rank-ms"],
  [["--rank-ms", "0"], "--rank-ms 0: give a number from 0.001 to 3600000"],
  [["--rank-ms", "3600001"], "--rank-ms 3600001: give a number from 0.001 to 3600000"],
  [["--rank-ms", "soon"], "--rank-ms is no number: give a number from 0.001 to 3600000"],
  [["--rank-ms", "3", "--scaling", "weak", "--scaling", "weak"], "--scaling is given 2 times: give it once"],
  [["--rank-ms", "3", "--devices", "0"], "--devices 0: give different whole numbers from 1 to 4096, as 1,2,4,8"],
  [["--rank-ms", "3", "--devices", "2,2"], "--devices 2,2: give different whole numbers from 1 to 4096, as 1,2,4,8"],
  [["--rank-ms", "3", "--devices", "4097"], "--devices 4097: give different whole numbers from 1 to 4096, as 1,2,4,8"],
  [["--rank-ms", "3", "--aggregation", "ring"], "--aggregation ring: give some of embedded,sharded,hierarchical"],
  [
    ["--rank-ms", "3", "--aggregation", "hierarchical"],
    "--aggregation hierarchical sums over a machine's devices: give --devices-per-machine",
  ],
  [["--rank-ms", "3", "--straggler-share", "1.1"], "--straggler-share 1.1: give a number from 0 to 1"],
  [["--rank-ms", "3", "--gbits", "0"], "--gbits 0: give a number from 0.001 to 100000"],
  [["no-such-run"], "no-such-run is no directory: give the directory that --out named"],
  [
    ["--rank-ms", "3", "--set", "model.syncBatchNorm=true"],
    "method moco-v2 shows embeddings between ranks within a step, which is not simulated: take one with a queue and no shuffling across ranks, e.g. --method moco-v2",
  ],
])("refuses %j in one line", async (flags, message) => {
  const { code, stdout, stderr } = await tandem(["simulate", ...flags]);
  expect([code, stdout, stderr]).toEqual([2, "", `tandem: ${message}\n`]);
});

it("says where a report cannot be written", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const report = join(file, "report.html");
  const { code, stderr } = await tandem(["simulate", "--rank-ms", "3", "--devices", "1", "--report", report]);
  expect(code).toBe(2);
  expect(stderr).toBe(`tandem: --report ${report}: there is no folder ${file}: make it first\n`);
  const device = await tandem(["simulate", "--rank-ms", "3", "--devices", "1", "--report", "/dev/null"]);
  expect([device.code, device.stderr]).toEqual([2, "tandem: --report /dev/null: that is no file: name one\n"]);
});
