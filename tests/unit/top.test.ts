/** What `tandem top` shows: a picture that fits, whatever the run and the terminal are. */
import { describe, expect, it } from "vitest";
import { frame, sparkline } from "../../src/cli/top/frame.js";
import { reportOf } from "../../src/cli/top/report.js";
import { PRESETS } from "../../src/config/index.js";
import { RunView, snapshotOf } from "../../src/dashboard/index.js";
import { NO_METRICS } from "../../src/protocol/rank-metrics.js";
import type { RunEvent } from "../../src/telemetry/index.js";

const START = Date.parse("2026-01-01T00:00:00Z");

/** A run of so many workers and steps, a step a second; each has computed a rank a step. */
function runOf(workers: number, steps: number, name = "worker") {
  let now = START;
  const view = new RunView(PRESETS.quickstart, () => now);
  const take = (event: RunEvent) => view.take({ time: new Date(now).toISOString(), ...event });
  const started = { again: "", control: "", resumed: false, step: 0, reproducible: true };
  take({ kind: "run-started", ...started });
  const names = Array.from({ length: workers }, (_, index) => `${name}-${String(index + 1)}`);
  for (const worker of names)
    take({ kind: "worker-joined", worker, devices: 1, device: "cpu", host: "here", pid: 7, workers });
  for (let step = 1; step <= steps; step++) {
    const metrics = { ...NO_METRICS, loadMs: 100, forwardMs: 300, backwardMs: 600 };
    now += 1000;
    for (const worker of names) view.happened({ kind: "rank-done", worker, step, rank: 0, metrics });
    const numbers = { totalSteps: 1000, epoch: 0, learningRate: 0.1, stepMs: 1000, imagesPerSecond: 128, workers };
    take({ kind: "step", step, ...NO_METRICS, ...numbers, loss: 5 + step });
  }
  const look = () => ({ snapshot: snapshotOf(view, { title: "a", encoder: "e", method: "m" }), from: "", lacks: null });
  return { take, report: () => reportOf(look()) };
}

const SIZES = [[200, 60], [120, 24], [80, 24], [40, 12], [20, 5], [1, 1]] as const; // prettier-ignore

describe("a picture", () => {
  it.each(SIZES)("fits into %d columns and %d rows, with no worker, few and many", (columns, rows) => {
    for (const workers of [0, 2, 500])
      for (const steps of [0, 1, 40]) {
        const lines = frame(runOf(workers, steps).report(), { columns, rows }, "a note", false);
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      }
  });

  it("says how far the run is, how long it takes, and where each worker's time goes", () => {
    const lines = frame(runOf(2, 40).report(), { columns: 120, rows: 24 }, null, false);
    expect(lines).toContain("step       40 of 1000 (4.0%), epoch 1, ETA 16:00");
    const worker = lines.find((line) => line.startsWith("worker-2")) ?? "";
    const bar = /(L+)(F+)(B+)$/.exec(worker) ?? [];
    const width = (bar[0] ?? "").length;
    for (const [index, share] of [0.1, 0.3, 0.6].entries())
      expect((bar[index + 1] ?? "").length / width).toBeCloseTo(share, 1);
  });

  it("shows those that are here before those that are gone, and why", () => {
    const { take, report } = runOf(3, 4);
    take({ kind: "worker-left", worker: "worker-1", reason: "silent for 5000 ms", workers: 2 });
    const lines = frame(report(), { columns: 120, rows: 24 }, null, false).filter((line) => /^worker-\d/.test(line));
    expect(lines.map((line) => line.slice(0, 8))).toEqual(["worker-2", "worker-3", "worker-1"]);
    expect(lines[2]).toMatch(/gone .*silent for 5000 ms$/);
  });

  it("lets nobody steer the terminal by a name", () => {
    const lines = frame(runOf(1, 2, "\u001b[2J\u202eevil").report(), { columns: 120, rows: 24 }, "\u0007", true);
    expect(lines.join("")).toContain("?[2J?evil-1");
    expect(lines.join("").replace(/\u001b\[\d+m/g, "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

it("a line of bars is the last values, from the lowest to the highest", () => {
  expect(sparkline([9, 9, 0, 7, 3.5], 3)).toBe("▁█▅");
  expect(sparkline([1, 1], 8)).toBe("▁▁");
  expect(sparkline([1], 8)).toBe("");
  expect(sparkline([1, 2], 0)).toBe("");
});
