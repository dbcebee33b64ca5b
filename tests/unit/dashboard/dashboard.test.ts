/** What the dashboard keeps of a run: bounded, and in order. */
import { describe, expect, it } from "vitest";
import { COLUMNS, History, type Point } from "../../../src/dashboard/history.js";

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
