/** Where each worker's time goes: nothing of a step's is lost, nothing else counts, and the run's events keep it. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { StageLog } from "../../../src/cli/stage-log.js";
import { NO_METRICS } from "../../../src/protocol/rank-metrics.js";
import { EventFile, STAGES, StageClock, type Moment, type TimedEvent } from "../../../src/telemetry/index.js";
import { temporaryFolder } from "../data/temporary-folder.js";

const folder = temporaryFolder();

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

  it("of an evaluation between two steps, and before the first, is no step's", () => {
    let now = 0;
    const clock = new StageClock(() => now);
    const at = (ms: number, moment: Moment) => {
      now = ms;
      clock.happened(moment);
    };
    const done = (exchangeMs: number): Moment => ({ kind: "rank-done", worker: "w", step: 1, rank: 0, metrics: { ...NO_METRICS, forwardMs: 50, exchangeMs, sentBytes: 8 } }); // prettier-ignore
    at(0, { kind: "step-opened", step: 1 });
    at(5000, done(5000));
    at(5010, { kind: "update-begun", step: 1 });
    at(5030, { kind: "update-done", step: 1 });
    at(9000, { kind: "step-opened", step: 2 });
    at(9060, done(4010));
    expect(clock.takeTotals().get("w")).toEqual({ load: 0, forward: 100, backward: 0, wait: 0, send: 10, aggregate: 20, broadcast: 10, ranks: 2, sentBytes: 16, receivedBytes: 0 }); // prettier-ignore
    expect(clock.takeTotals().size).toBe(0);
  });
});

describe("in the run's events", () => {
  /** Of a run of so many seconds, with a step each 100 ms. */
  function eventsOf(workers: number, seconds: number) {
    let now = 0;
    const written: TimedEvent[] = [];
    const file = new EventFile(join(folder.path, String(workers)), undefined, (event) => written.push(event));
    const log = new StageLog(file, () => now);
    for (; now < 1000 * seconds; now += 100) {
      log.happened({ kind: "step-opened", step: 1 });
      for (let worker = 0; worker < workers; worker++)
        log.happened({ kind: "rank-done", worker: String(worker), step: 1, rank: 0, metrics: NO_METRICS });
      log.stepDone({ workers });
    }
    log.write();
    file.close();
    return written.flatMap((event) => (event.kind === "stages" ? [event] : []));
  }

  it("it comes soon at first, then every ten seconds, and all of it is there", () => {
    const events = eventsOf(2, 60);
    expect(events.map(({ seconds }) => seconds)).toEqual([1, 2, 4, 8, 10, 10, 10, 10, 5]);
    expect(events.reduce((sum, { workers }) => sum + (workers[0]?.ranks ?? 0), 0)).toBe(600);
  });

  it("it takes about a kilobyte a second at most, however many workers there are", () => {
    const bytes = JSON.stringify(eventsOf(100, 90)).length;
    expect(bytes / 90).toBeLessThan(1500);
  });
});
