import { describe, expect, it } from "vitest";
import { costOf } from "../../../src/cli/scaling-bench/result.js";
import { middleHalf, PARTS, StepAccount, type StepTime } from "../../../src/cli/scaling-bench/step-account.js";
import { NO_METRICS } from "../../../src/protocol/rank-metrics.js";

/** An account, and what tells it at given times. */
function told(workers: number) {
  let now = 0;
  const account = new StepAccount(workers, () => now);
  const at = (time: number, moment: Parameters<StepAccount["happened"]>[0]) => {
    now = time;
    account.happened(moment);
  };
  const done = (time: number, worker: string, loadMs: number, forwardMs: number, backwardMs: number) => {
    at(time, {
      ...{ kind: "rank-done", worker, step: 0, rank: 0 },
      metrics: { ...NO_METRICS, loadMs, forwardMs, backwardMs },
    });
  };
  const update = (from: number, to: number) => {
    at(from, { kind: "update-begun", step: 0 });
    at(to, { kind: "update-done", step: 0 });
  };
  return { account, at, done, update };
}

const total = ({ parts }: StepTime) => PARTS.reduce((sum, part) => sum + parts[part], 0);

describe("the account of a step", () => {
  it("says for what workers were idle, in parts that add up", () => {
    const { account, at, done, update } = told(2);
    at(1000, { kind: "step-opened", step: 0 });
    // Both have weights after 5 ms; the second computes for 10 ms longer, and its gradient takes 7 ms; the update 20.
    done(1105, "a", 10, 40, 50);
    done(1115, "b", 10, 40, 60);
    update(1122, 1142);
    expect(account.steps).toEqual([
      {
        stepMs: 142,
        parts: { load: 10, compute: 95, imbalance: 5, wait: 0, send: 7, aggregate: 20, broadcast: 5 },
      },
    ]);
  });

  it("begins where the update before it ended", () => {
    const { account, at, done, update } = told(1);
    at(1000, { kind: "step-opened", step: 0 });
    done(1010, "a", 0, 5, 5);
    update(1010, 1012);
    at(1013, { kind: "step-opened", step: 1 });
    done(1025, "a", 0, 5, 5);
    update(1025, 1027);
    expect(account.steps.map(({ stepMs }) => stepMs)).toEqual([12, 15]);
    expect(account.steps[1].parts.broadcast).toBe(3);
  });

  it("calls it imbalance where a worker has two ranks and another one or none", () => {
    const { account, at, done, update } = told(3);
    at(0, { kind: "step-opened", step: 0 });
    done(100, "a", 0, 50, 50);
    done(100, "b", 0, 50, 50);
    done(200, "b", 0, 50, 50);
    update(200, 200);
    const [step] = account.steps;
    expect(step.parts).toMatchObject({ compute: 100, imbalance: 100, wait: 0, broadcast: 0 });
    expect(total(step)).toBeCloseTo(step.stepMs, 9);
  });

  it("calls it waiting where workers are as busy, but not at the same time", () => {
    const { account, at, done, update } = told(2);
    at(0, { kind: "step-opened", step: 0 });
    done(100, "a", 0, 50, 50);
    done(130, "b", 0, 50, 50);
    update(130, 130);
    expect(account.steps[0].parts).toMatchObject({ compute: 100, imbalance: 0, wait: 15, broadcast: 15 });
  });
});

describe("what is lost to one worker", () => {
  const time = (stepMs: number, compute: number): StepTime => ({
    stepMs,
    parts: { load: 0, compute, imbalance: 0, wait: 0, send: 0, aggregate: 0, broadcast: stepMs - compute },
  });

  it("is what a step has become longer, in weak scaling", () => {
    expect(costOf(time(120, 105), time(110, 100), 1)).toMatchObject({
      ...{ meanMs: 120, idealMs: 110, lostMs: 10 },
      lost: { compute: 5, broadcast: 5 },
    });
  });

  it("is what a step is longer than its N-th part, in strong scaling", () => {
    expect(costOf(time(70, 50), time(110, 100), 2)).toMatchObject({
      ...{ idealMs: 55, lostMs: 15 },
      lost: { compute: 0, broadcast: 15 },
    });
  });
});

it("of a run's steps the middle half counts, by their length", () => {
  const steps = [90, 5000, 110, 100, 105, 95, 10, 100].map((stepMs) => ({
    stepMs,
    parts: { load: 1, compute: stepMs - 1, imbalance: 0, wait: 0, send: 0, aggregate: 0, broadcast: 0 },
  }));
  const { stepMs, parts } = middleHalf(steps);
  expect(stepMs).toBe(100);
  expect(parts).toMatchObject({ load: 1, compute: 99 });
  expect(middleHalf(steps.slice(0, 1)).stepMs).toBe(90);
});
