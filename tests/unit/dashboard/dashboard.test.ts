/** What the dashboard keeps of a run: bounded, in order, and of the time of each worker all of it. */
import { describe, expect, it } from "vitest";
import { COLUMNS, History, type Point } from "../../../src/dashboard/history.js";
import { NO_METRICS } from "../../../src/protocol/rank-metrics.js";
import { STAGES, StageClock } from "../../../src/telemetry/index.js";

const pointOf = (step: number): Point =>
  Object.fromEntries(COLUMNS.map((name) => [name, name === "step" ? step : 10 * step])) as Point;

describe("a history", () => {
  it("keeps every step while there is room, and means of as many as need be afterwards", () => {
    const history = new History(8);
    for (let step = 1; step <= 8; step++) history.add(pointOf(step));
    expect([history.points, history.stride, history.since(6).step]).toEqual([8, 1, [7, 8]]);
    for (let step = 9; step <= 1000; step++) history.add(pointOf(step));
    expect(history.points).toBeLessThanOrEqual(8);
    expect(history.stride).toBe(128);
    const { step, loss } = history.since(0);
    expect(step[0]).toBe(64.5);
    expect(loss).toEqual(step.map((value) => 10 * value));
    expect([...step].sort((one, other) => one - other)).toEqual(step);
  });

  it("forgets what comes after the step that a run goes back to", () => {
    const history = new History(8);
    for (let step = 1; step <= 6; step++) history.add(pointOf(step));
    const { revision } = history;
    history.forget(4);
    history.add(pointOf(5));
    expect([history.since(0).step, history.revision > revision]).toEqual([[1, 2, 3, 4, 5], true]);
  });
});

describe("a worker's time", () => {
  it("is split by what it was idle for, and nothing of it is lost", () => {
    let now = 0;
    const clock = new StageClock(() => now);
    const done = (worker: string, exchangeMs: number) => {
      const metrics = { ...NO_METRICS, loadMs: 10, forwardMs: 20, backwardMs: 30, exchangeMs };
      clock.happened({ kind: "rank-done", worker, step: 1, rank: 0, metrics });
    };
    const at = (ms: number, what: () => void) => {
      now = ms;
      what();
    };
    at(100, () => done("fast", 0));
    at(140, () => done("slow", 0));
    at(145, () => clock.happened({ kind: "update-begun", step: 1 }));
    at(155, () => clock.happened({ kind: "update-done", step: 1 }));
    // 40 for the other, 5 on the way, 10 for the update, and 15 until the weights are there.
    at(230, () => done("fast", 70));
    const shares = clock.sharesOf("fast");
    const all = 60 + 60 + 70;
    const parts = { load: 20, forward: 40, backward: 60, wait: 40, send: 5, aggregate: 10, broadcast: 15 };
    for (const stage of STAGES) expect(shares?.[stage]).toBeCloseTo(parts[stage] / all, 12);
    clock.left("fast");
    expect(clock.sharesOf("fast")).toBeNull();
  });
});
