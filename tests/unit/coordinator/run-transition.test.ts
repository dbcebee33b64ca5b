import { describe, expect, it } from "vitest";
import {
  initialState,
  type Effect,
  type RunEvent,
  type RunPlan,
  type RunState,
} from "../../../coordinator/run-state.js";
import { CHECKPOINT_RETRY_MS, FINAL_CHECKPOINT_TRIES, transition } from "../../../coordinator/run-transition.js";
import { SLOW_FOR_UNITS } from "../../../coordinator/pace.js";
import { workerId, type WorkerId } from "../../../src/protocol/identifiers.js";

const PLAN: RunPlan = {
  ...{ worldSize: 4, totalSteps: 2, minWorkers: 2, heartbeatMs: 10, deadAfterMs: 100, lateQuantile: 0.9 },
  ...{ checkpointEverySteps: 0, evaluateEverySteps: 0, featureChunks: 0, nonFinite: "stop" },
};
const [a, b] = [workerId("a"), workerId("b")];

/** A run to which events happen; `effects` are those of the last. */
class Play {
  state: RunState;
  effects: readonly Effect[] = [];
  now = 0;

  constructor(plan: Partial<RunPlan> = {}) {
    this.state = initialState({ ...PLAN, ...plan }, 0);
  }

  happen(...events: readonly RunEvent[]): this {
    for (const event of events)
      ({ state: this.state, effects: this.effects } = transition(this.state, event, this.now));
    return this;
  }

  at(now: number): this {
    this.now = now;
    return this;
  }
}

const joins = (worker: WorkerId, rounds = 0, devices = 1): RunEvent => ({
  ...{ kind: "worker-joined", worker, rounds, devices },
});
const joined = (plan?: Partial<RunPlan>, rounds = 0) => new Play(plan).happen(joins(a, rounds), joins(b, rounds));
const result = (worker: WorkerId, rank: number, step = 0, nonFinite: string | null = null): RunEvent => ({
  ...{ kind: "rank-result", worker, step, rank, nonFinite },
});
const held = (...ranks: number[]): RunEvent => ({ kind: "gradients-held", step: 0, ranks });
const kinds = ({ effects }: Play) => effects.map(({ kind }) => kind);

describe("workers", () => {
  it("are waited for, aloud, while there are fewer than minWorkers", () => {
    const play = new Play().happen(joins(a));
    expect(play.state.phase.kind).toBe("waiting");
    expect(play.effects).toContainEqual({ kind: "explain", reason: "waiting: 1 of at least 2 workers are here" });
  });

  it("get a contiguous run of ranks each, and a lost worker's within the step", () => {
    const play = joined();
    expect(play.effects).toContainEqual({ kind: "assign", worker: a, step: 0, ranks: [0, 1], round: 0 });
    expect(play.effects).toContainEqual({ kind: "assign", worker: b, step: 0, ranks: [2, 3], round: 0 });
    play.happen({ kind: "worker-left", worker: b, reason: "gone" });
    expect(play.effects).toContainEqual({ kind: "assign", worker: a, step: 0, ranks: [2, 3], round: 0 });
  });

  it("are buried after more than deadAfterMs of silence, and not sooner", () => {
    const play = new Play().happen(joins(a));
    expect(play.at(100).happen({ kind: "tick" }).state.workers.size).toBe(1);
    play.at(101).happen({ kind: "tick" });
    expect(play.effects).toContainEqual({ kind: "forget", worker: a, reason: "silent for 101 ms" });
  });

  it("that drain keep the rank in hand, hand the others back, and go when it is in", () => {
    const play = joined().happen({ kind: "worker-drains", worker: b, keeps: [2] });
    expect(play.effects).toEqual([{ kind: "assign", worker: a, step: 0, ranks: [3], round: 0 }]);
    expect(kinds(play.happen(result(b, 2)))).toEqual([]);
    expect(play.happen(held(2)).effects).toEqual([{ kind: "dismiss", worker: b }]);
    expect([...play.state.workers.keys()]).toEqual([a]);
  });
});

describe("a worker of four devices beside one of one", () => {
  const plan = { worldSize: 5, totalSteps: 100, evaluateEverySteps: 100, featureChunks: 12 };
  const beside = (more: Partial<RunPlan>) => new Play({ ...plan, ...more }).happen(joins(a), joins(b, 0, 4));

  it("gets four ranks to the other's one, and goes on so where each device is as fast", () => {
    const play = beside({ evaluateEverySteps: 0 });
    for (let step = 0; step < 30; step++) {
      expect(play.effects.filter(({ kind }) => kind === "assign")).toEqual([
        { kind: "assign", worker: a, step, ranks: [0], round: 0 },
        { kind: "assign", worker: b, step, ranks: [1, 2, 3, 4], round: 0 },
      ]);
      play.at(play.now + 50);
      for (const rank of [0, 1, 2, 3, 4]) {
        play.happen(result(rank === 0 ? a : b, rank, step));
        expect(kinds(play)).not.toContain("straggler");
      }
      play.happen({ kind: "gradients-held", step, ranks: [0, 1, 2, 3, 4] }, { kind: "applied", step });
    }
    expect([a, b].map((worker) => play.state.workers.get(worker)?.pace)).toEqual([50, 50]);
  });

  it("gets a feature chunk for each device", () => {
    const play = beside({});
    const chunks = (worker: WorkerId) =>
      play.effects.flatMap((effect) =>
        effect.kind === "request-features" && effect.worker === worker ? [effect.chunk] : [],
      );
    expect([chunks(a), chunks(b)]).toEqual([[0], [1, 2, 3, 4]]);
    play.happen({ kind: "features", worker: b, step: 0, chunk: 2 });
    expect([chunks(a), chunks(b)]).toEqual([[], [5]]);
  });
});

describe("late ranks", () => {
  /** A hundred steps of 10 ms a rank, so that it is known how long one takes. */
  function paced(): Play {
    const play = joined({ totalSteps: 1000, deadAfterMs: 100_000 });
    for (let step = 0; step < 100; step++) {
      for (const rank of [0, 1]) play.at(play.now + 10).happen(result(a, rank, step), result(b, rank + 2, step));
      play.happen({ kind: "gradients-held", step, ranks: [0, 1, 2, 3] }, { kind: "applied", step });
    }
    return play;
  }

  it("are given to an idle worker too, the last first, and the first answer counts", () => {
    const play = paced();
    const [start, step] = [play.now, 100];
    play
      .at(start + 10)
      .happen(result(a, 0, step))
      .at(start + 20)
      .happen(result(a, 1, step));
    play.happen({ kind: "gradients-held", step, ranks: [0, 1] });
    expect(play.at(start + 20).happen({ kind: "tick" }).effects).toEqual([]);
    expect(play.at(start + 21).happen({ kind: "tick" }).effects).toEqual([
      { kind: "assign", worker: a, step, ranks: [3], round: 0 },
    ]);
    // One at a time.
    expect(play.at(start + 22).happen({ kind: "tick" }).effects).toEqual([]);
    play.at(start + 30).happen(result(a, 3, step), { kind: "gradients-held", step, ranks: [0, 1, 3] });
    expect(play.effects).toEqual([{ kind: "assign", worker: a, step, ranks: [2], round: 0 }]);
    play.happen(result(b, 3, step), result(b, 2, step), { kind: "gradients-held", step, ranks: [0, 1, 2, 3] });
    expect(kinds(play)).toEqual(["apply"]);
  });

  it("of one worker again and again name it, once, and fewer go to it", () => {
    const play = joined({ totalSteps: 1000 });
    const told: Effect[] = [];
    for (let step = 0; step < 30; step++) {
      for (const rank of [0, 1, 2, 3]) {
        const phase = play.state.phase.kind === "step" ? play.state.phase : null;
        const holder = phase?.work.holders.get(rank)?.[0] ?? a;
        play.at(play.now + (holder === b ? 90 : 10)).happen({ kind: "heard", worker: a }, { kind: "heard", worker: b });
        play.happen(result(holder, rank, step));
        told.push(...play.effects.filter(({ kind }) => kind === "straggler"));
      }
      play.happen({ kind: "gradients-held", step, ranks: [0, 1, 2, 3] }, { kind: "applied", step });
    }
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ worker: b, slow: true });
    expect(SLOW_FOR_UNITS).toBeLessThan(30);
    expect(play.effects).toContainEqual(
      expect.objectContaining({ kind: "assign", worker: a, ranks: [0, 1, 2], round: 0 }),
    );
  });
});

describe("a step whose ranks show each other something", () => {
  const shown = (worker: WorkerId, rank: number, step = 0, round = 0): RunEvent => ({
    ...{ kind: "embeddings", worker, step, rank, round },
  });
  const assigned = (worker: WorkerId, ranks: number[], round: number): Effect => ({
    ...{ kind: "assign", worker, step: 0, ranks, round },
  });

  it("asks for embeddings, shows them to all once every rank's are in, and only then asks for gradients", () => {
    const play = joined({}, 1);
    expect(play.effects).toContainEqual(assigned(a, [0, 1], 0));
    expect(play.effects).toContainEqual(assigned(b, [2, 3], 0));
    expect(kinds(play.happen(shown(a, 0), shown(a, 1), shown(b, 3)))).toEqual([]);
    play.happen(shown(b, 2));
    expect(play.effects).toEqual([
      { kind: "show-embeddings", step: 0, round: 0 },
      assigned(a, [0, 1], 1),
      assigned(b, [2, 3], 1),
    ]);
  });

  it("goes through as many rounds as there are, each rank with the worker that had it last", () => {
    const play = joined({}, 2).happen(shown(a, 0), shown(b, 1), shown(b, 3));
    expect(play.happen(shown(b, 2)).effects).toEqual([
      { kind: "show-embeddings", step: 0, round: 0 },
      assigned(a, [0], 1),
      assigned(b, [1, 2, 3], 1),
    ]);
    const { state } = play;
    expect(play.happen(shown(a, 0, 0, 0), result(a, 0)).state).toEqual(state);
    play.happen({ kind: "worker-left", worker: a, reason: "gone" });
    expect(play.effects).toContainEqual(assigned(b, [0], 1));
    play.happen(...[0, 1, 2, 3].map((rank) => shown(b, rank, 0, 1)));
    expect(play.effects).toEqual([{ kind: "show-embeddings", step: 0, round: 1 }, assigned(b, [0, 1, 2, 3], 2)]);
    expect(play.state.phase.kind).toBe("step");
  });

  it("takes embeddings once, of ranks that there are, and of the open step", () => {
    const play = joined({}, 1);
    const { state } = play.happen(shown(a, 0));
    const others = [shown(b, 0), shown(a, 4), shown(a, 1, 1), shown(a, 1, 0, 1), result(a, 1), held(1)];
    expect(play.happen(...others).state).toEqual(state);
  });

  it("gives the embeddings of a lost worker's ranks to others, and lets one that drains finish what it keeps", () => {
    const play = joined({}, 1).happen({ kind: "worker-drains", worker: b, keeps: [2] });
    expect(play.effects).toEqual([assigned(a, [3], 0)]);
    expect(play.happen(shown(b, 2)).effects).toEqual([{ kind: "dismiss", worker: b }]);
    play.happen({ kind: "worker-left", worker: a, reason: "gone" });
    expect(play.effects).toContainEqual({ kind: "explain", reason: "waiting: no worker is here" });
    play.happen(joins(a, 1));
    expect(play.effects).toContainEqual(assigned(a, [0, 1, 3], 0));
  });
});

describe("a loss or gradient that is not finite", () => {
  it("ends the run, with a checkpoint of the step before, naming step, rank, worker and parameter", () => {
    const play = joined().happen(result(b, 2, 0, "layer1.0.conv1.weight"));
    expect(play.effects).toEqual([{ kind: "checkpoint", step: 0 }]);
    play.happen({ kind: "checkpoint-written", step: 0 });
    expect(play.effects).toMatchObject([{ kind: "end", outcome: "failed", failure: { code: "NON_FINITE" } }]);
    const { message } = (play.effects[0] as { failure: { message: string } }).failure;
    expect(message).toContain("the gradient of layer1.0.conv1.weight is not finite at step 0, rank 2, computed by b");
  });

  it("skips the step for all ranks alike, once all are in, where the config says so", () => {
    const play = joined({ nonFinite: "skip" }).happen(
      result(b, 2, 0, "loss"),
      result(a, 0),
      result(a, 1),
      result(b, 3),
    );
    expect(kinds(play)).toEqual([]);
    play.happen(held(0, 1, 2, 3));
    expect(play.effects).toEqual([
      { kind: "explain", reason: "step 0 is skipped: the loss is not finite at step 0, rank 2, computed by b" },
      { kind: "apply", step: 0, skip: true },
    ]);
    play.happen({ kind: "applied", step: 0 });
    expect(play.effects[0]).toEqual({ kind: "publish", step: 1, skipped: true });
  });
});

describe("checkpoints", () => {
  const through = (play: Play, step: number) =>
    play.happen(
      ...[0, 1, 2, 3].map((rank) => result(a, rank, step)),
      { kind: "gradients-held", step, ranks: [0, 1, 2, 3] },
      { kind: "applied", step },
    );

  it("are of a whole step when the run is stopped, also in the middle of an update", () => {
    const play = joined().happen(...[0, 1, 2, 3].map((rank) => result(a, rank)), held(0, 1, 2, 3));
    expect(play.state.phase.kind).toBe("applying");
    expect(kinds(play.happen({ kind: "stop-requested" }))).toEqual([]);
    expect(kinds(play.happen({ kind: "applied", step: 0 }))).toEqual(["publish", "checkpoint"]);
    expect(play.happen({ kind: "checkpoint-written", step: 1 }).effects).toMatchObject([
      { kind: "end", outcome: "stopped" },
    ]);
  });

  it("are written one at a time: one that is due meanwhile is left out, aloud", () => {
    const play = through(joined({ totalSteps: 9, checkpointEverySteps: 1 }), 0);
    expect(play.effects).toContainEqual({ kind: "checkpoint", step: 1 });
    through(play, 1);
    expect(kinds(play)).not.toContain("checkpoint");
    expect(play.effects).toContainEqual(
      expect.objectContaining({
        reason: "the checkpoint of step 2 is left out: that of step 1 is still being written",
      }),
    );
    play.happen({ kind: "checkpoint-failed", step: 1, reason: "full" });
    expect(play.effects).toEqual([{ kind: "explain", reason: "full" }]);
    expect(through(play, 2).effects).toContainEqual({ kind: "checkpoint", step: 3 });
  });

  it("of the end are tried again, so often and no more", () => {
    const play = through(through(joined(), 0), 1);
    expect(play.effects).toContainEqual({ kind: "checkpoint", step: 2 });
    for (let tries = 1; tries < FINAL_CHECKPOINT_TRIES; tries++) {
      play.happen({ kind: "checkpoint-failed", step: 2, reason: "full" });
      const failedAt = play.now;
      expect(kinds(play.at(failedAt + CHECKPOINT_RETRY_MS - 1).happen({ kind: "tick" }))).not.toContain("checkpoint");
      expect(kinds(play.at(failedAt + CHECKPOINT_RETRY_MS).happen({ kind: "tick" }))).toContain("checkpoint");
    }
    play.happen({ kind: "checkpoint-failed", step: 2, reason: "full" });
    expect(play.effects.at(-1)).toMatchObject({
      kind: "end",
      outcome: "failed",
      failure: { code: "CHECKPOINT_WRITE" },
    });
  });
});
