import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { NO_METRICS } from "../../../src/protocol/rank-metrics.js";
import { Timeline } from "../../../src/telemetry/index.js";

const folder = mkdtempSync(join(tmpdir(), "tandem-timeline-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const METRICS = { ...NO_METRICS, loss: 1 };

it("is a JSON array of Chrome's trace events: a rank's parts end with its result, one after another", () => {
  let now = 1000;
  const path = join(folder, "trace.json");
  const timeline = new Timeline(path, () => now);
  timeline.happened({ kind: "step-opened", step: 3 });
  now = 1100;
  const metrics = { ...METRICS, backwardMs: 50, forwardMs: 30, loadMs: 0, exchangeMs: 15 };
  timeline.happened({ kind: "rank-done", worker: "worker-2", step: 3, rank: 1, metrics });
  timeline.happened({ kind: "update-begun", step: 3 });
  now = 1104;
  timeline.happened({ kind: "update-done", step: 3 });
  timeline.close();
  const events = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>[];
  const spans = events.filter(({ ph }) => ph === "X").map(({ name, ts, dur }) => [name, ts, dur]);
  expect(spans).toEqual([
    ["backward", 1_050_000, 50_000],
    ["forward", 1_020_000, 30_000],
    ["wait", 1_005_000, 15_000],
    ["update", 1_100_000, 4_000],
    ["step 3", 1_000_000, 104_000],
  ]);
  expect(events.filter(({ ph }) => ph === "M").map(({ args }) => (args as { name: string }).name)).toContain(
    "worker-2",
  );
});

it("says which file cannot be written", () => {
  expect(() => new Timeline(join(folder, "nowhere", "x.json"), () => 0)).toThrow(/cannot write --trace .*nowhere/);
});
