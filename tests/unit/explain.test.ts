/** What a run's events are made of: its time by the clock, chance levels, and what each finding wants to see. */
import { describe, expect, it } from "vitest";
import { PRESETS, type RunConfig } from "../../src/config/index.js";
import { explain } from "../../src/explain/index.js";
import { chanceOf } from "../../src/explain/learning.js";
import { summaryOf } from "../../src/explain/summary.js";
import { NO_METRICS, type RankMetrics } from "../../src/protocol/rank-metrics.js";
import type { RunEvent, TimedEvent } from "../../src/telemetry/index.js";

const START = Date.parse("2026-01-01T00:00:00Z");
const STARTED: RunEvent = { kind: "run-started", again: "train --resume --out a", control: "", resumed: false, step: 0, reproducible: true }; // prettier-ignore
const joined = (worker: string, pid: number): RunEvent => ({ kind: "worker-joined", worker, devices: 1, device: "cpu", host: "here", pid, workers: 1 }); // prettier-ignore

const step = (number: number, stepMs: number, numbers: Partial<RankMetrics> = {}): RunEvent => ({
  ...{ kind: "step", step: number, ...NO_METRICS, ...numbers, totalSteps: 1000, epoch: 0, learningRate: 0.1 },
  ...{ stepMs, imagesPerSecond: 128_000 / stepMs, workers: 1 },
});

/** @param events each with the second in which it comes */
const at = (...events: readonly (readonly [seconds: number, event: RunEvent])[]): TimedEvent[] =>
  events.map(([seconds, event]) => ({ time: new Date(START + 1000 * seconds).toISOString(), ...event }));

const stages = (worker: string, ms: Partial<Record<"load" | "forward" | "wait" | "broadcast", number>>, ranks = 10) => ({ worker, ranks, load: 0, forward: 0, backward: 0, wait: 0, send: 0, aggregate: 0, broadcast: 0, sentBytes: 0, receivedBytes: 0, ...ms }); // prettier-ignore

describe("the clock", () => {
  it("accounts for every second of a run that crashed, went on, evaluated, waited and ended", async () => {
    const summary = await summaryOf(
      at(
        [0, STARTED],
        [3, joined("worker-1", 1)],
        [7, { kind: "evaluated", step: 0, accuracy: 0.1, linear: null }],
        [9, step(1, 1000)],
        [10, step(2, 1000)],
        [11, step(3, 1000)],
        // Killed, found dead, and started again.
        [20, { ...STARTED, resumed: true, step: 1 }],
        [22, joined("worker-1", 2)],
        [24, step(2, 1500)],
        [25, step(3, 1000)],
        [25, { kind: "explained", reason: "waiting: 0 of at least 1 workers are here" }],
        [31, joined("worker-2", 3)],
        [33, step(4, 1000)],
        [34, step(5, 1000)],
        [36, { kind: "run-ended", outcome: "finished", step: 5 }],
      ),
    );
    expect(summary.clock).toEqual({
      // 3 until somebody joins, 1 after the evaluation; 2.5 at the second time.
      ...{ start: 6.5 * 1000, steps: 5 * 1000, repeated: 2.5 * 1000, evaluations: 4 * 1000 },
      ...{ waiting: 7 * 1000, down: 9 * 1000, end: 2 * 1000, other: 0 },
    });
    expect([summary.starts, summary.crashes, summary.repeatedSteps]).toEqual([2, 1, 2]);
  });

  it("does not count the night for which a run was stopped in order", async () => {
    const { clock, crashes } = await summaryOf(
      at(
        [0, STARTED],
        [1, { kind: "run-ended", outcome: "stopped", step: 0 }],
        [36_000, { ...STARTED, resumed: true }],
        [36_001, { kind: "run-ended", outcome: "stopped", step: 0 }],
      ),
    );
    expect([clock.down, clock.start, crashes]).toEqual([0, 2000, 0]);
  });
});

const { quickstart } = PRESETS;
const kinds = async (events: TimedEvent[], config: RunConfig = quickstart) =>
  Object.fromEntries((await explain(events, config)).findings.map((finding) => [finding.kind, finding]));

describe("findings", () => {
  const run = (...workers: ReturnType<typeof stages>[]) =>
    at([0, STARTED], [0, joined("worker-1", 1)], [0, joined("worker-2", 2)], [10, step(1, 10_000)], [10, { kind: "stages", seconds: 10, workers }]); // prettier-ignore

  it("name the worker that others wait for, and what is slow at it", async () => {
    const quick = stages("worker-1", { forward: 500, wait: 500 });
    const computing = await kinds(run(quick, stages("worker-2", { forward: 1000 })));
    expect(computing["straggler"]).toMatchObject({ title: "the others wait for worker-2", gain: 0.25 });
    expect(computing["straggler"]?.seen).toContain("worker-2 (process 2 on here) takes 100 ms for a rank, the others 50.0 ms"); // prettier-ignore
    const loading = await kinds(run(quick, stages("worker-2", { forward: 400, load: 600 })));
    expect(loading["straggler"]?.why).toContain("late with its samples");
    expect(await kinds(run(quick, stages("worker-2", { forward: 550 })))).toHaveProperty("waiting");
  });

  it("say where ranks do not divide among devices", async () => {
    const config = { ...quickstart, parallel: { ...quickstart.parallel, worldSize: 3 } };
    const alike = [stages("worker-1", { forward: 750, wait: 250 }), stages("worker-2", { forward: 750, wait: 250 })];
    expect((await kinds(run(...alike), config))["waiting"]?.why).toBe(
      "3 ranks on 2 devices: in the last of 2 rounds 25.0% of the devices' time has no rank",
    );
  });

  it("say that events of before do not tell where time goes, rather than guess", async () => {
    const told = await explain(at([0, STARTED], [0, joined("worker-1", 1)], [10, step(1, 10_000)]), quickstart);
    expect([told.stages, told.limit]).toEqual([null, null]);
    expect(told.findings.map(({ kind }) => kind)).not.toContain("computing");
  });

  it("count steps that were left out, workers of another kind, and what was refused", async () => {
    const found = await kinds(
      at(
        ...[[0, STARTED], [1, step(1, 1000)], [2, { kind: "step-skipped", step: 2 }]] as const,
        [2, { kind: "not-reproducible", worker: "worker-2", fingerprints: "a, b" }],
        [2, { kind: "dropped", peer: "x", reason: "version" }],
        [2, { kind: "events-lost", events: 3 }],
      ),
    ); // prettier-ignore
    expect(found["skipped-steps"]).toMatchObject({ gain: 0.5 });
    expect(found["other-bits"]?.seen).toBe("worker-2 computed other bits");
    expect(found["refusals"]?.seen).toBe("1 peer or message refused, 3 events lost to the disk");
  });

  it("see a disk that does not keep up, and steps that become slower", async () => {
    const slower = Array.from({ length: 200 }, (_, index): [number, RunEvent] => [index + 1, step(index + 1, index < 100 ? 500 : 1000)]); // prettier-ignore
    const left = { kind: "explained", reason: "the checkpoint of step 20 is left out: that of step 10 is still being written" } as const; // prettier-ignore
    const found = await kinds(at([0, STARTED], ...slower, [200, left]));
    expect(found["drift"]).toMatchObject({ seen: expect.stringContaining("500 ms in the median of the first quarter of the steps, 1.0 s of the last (from step 151 on)") }); // prettier-ignore
    expect(found["checkpoints"]?.title).toBe("the disk does not keep up with checkpoints");
  });
});

describe("evaluations", () => {
  /** One at each of these steps of 100, of 1 s each like the steps. */
  const of = (...steps: number[]) =>
    at([0, STARTED], [0, joined("worker-1", 1)], ...steps.map((at, index): [number, RunEvent] => [2 * index + 1, { kind: "evaluated", step: at, accuracy: 0.5, linear: null }]), [20, step(100, 1000)]); // prettier-ignore
  const tries = async (...steps: number[]) => (await kinds(of(...steps)))["evaluations"]?.tries[0];

  it("are fewer at twice the interval, but for the first and the last", async () => {
    expect(await tries(0)).toMatch(/^a lower evaluation.maxTrain/);
    expect(await tries(0, 30, 60)).toMatch(/: 1 evaluation less, /);
    expect(await tries(0, 30, 60, 90)).toMatch(/: 2 evaluations less, /);
  });
});

describe("learning", () => {
  /** Steps after the queue is filled; numbers of a step go from the first to the last. */
  const run = (from: Partial<RankMetrics>, to: Partial<RankMetrics>, accuracies: readonly number[] = []) =>
    at(
      [0, STARTED],
      ...Array.from({ length: 400 }, (_, index): [number, RunEvent] => {
        const mixed = Object.entries(from).map(([name, value]) => [name, value + (((to)[name as keyof RankMetrics] ?? value) - value) * (index / 399)]); // prettier-ignore
        return [index + 1, step(index + 1, 1000, Object.fromEntries(mixed))];
      }),
      ...accuracies.map((accuracy, index): [number, RunEvent] => [400, { kind: "evaluated", step: 100 * index, accuracy, linear: null }]), // prettier-ignore
    );
  const titleOf = async (...args: Parameters<typeof run>) => (await kinds(run(...args)))["learning"]?.title;
  const guessing = { loss: Math.log(2049), accuracy: 0, positiveSimilarity: 0.5, negativeSimilarity: 0.4 };

  it("is seen by loss, by contrast and by kNN accuracy, and missed where there is none", async () => {
    expect(await titleOf(guessing, { loss: 6 })).toBe("the run learns");
    expect(await titleOf(guessing, { accuracy: 0.2 })).toBe("the run learns");
    expect(await titleOf(guessing, {}, [0.2, 0.3])).toBe("the run learns");
    expect(await titleOf(guessing, {}, [0.2, 0.205])).toBe("no sign that the run learns");
    expect(await titleOf(guessing, { loss: 6 }, [0.2, 0.5, 0.3])).toBe("kNN accuracy falls again");
  });

  it("says what has become better, and what worse", async () => {
    const why = async (...args: Parameters<typeof run>) => (await kinds(run(...args)))["learning"]?.why;
    const better = { ...guessing, loss: 7 };
    expect(await why(guessing, { loss: 6, accuracy: 0.2 })).toBe("the loss and contrast accuracy have become better by more than noise"); // prettier-ignore
    expect(await why({ ...better, accuracy: 0.2 }, { loss: 7.5, accuracy: 0 }, [0.2, 0.5])).toBe(
      "kNN accuracy has become better by more than noise; the loss and contrast accuracy have become worse, in a comparison with negatives that change too",
    );
  });

  it("has ended where all embeddings are alike", async () => {
    const alike = { positiveSimilarity: 0.999, negativeSimilarity: 0.998 };
    const events = run({ ...guessing, ...alike }, alike);
    expect((await kinds(events))["learning"]?.title).toBe("the embeddings have collapsed");
    // Four times the rule's rate: said only where something is wrong.
    expect((await kinds(events))["learning-rate"]?.seen).toContain("the linear rule gives 0.015 for sgd");
    expect(await kinds(run(guessing, { loss: 6 }))).not.toHaveProperty("learning-rate");
  });

  it("is measured against guessing, as each method has it", () => {
    const of = (method: RunConfig["method"]) => chanceOf({ ...quickstart, method });
    // K = 2048, W·B = 128, τ = 0.2.
    expect(of("moco-v2")?.loss).toBeCloseTo(7.62511, 5);
    expect(of("simclr")?.loss).toBeCloseTo(5.54126, 5);
    expect(of("moco-v3")?.loss).toBeCloseTo(0.8 * 4.85203, 5);
    expect(of("supcon")).toBeNull();
  });
});
