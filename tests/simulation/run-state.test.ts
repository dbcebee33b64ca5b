/**
 * The coordinator's state machine under random schedules: a simulated clock and network, workers that join, leave, fall
 * silent, answer late, twice, or for steps long past.
 */
import { describe, expect, it } from "vitest";
import {
  initialState,
  transition,
  type Effect,
  type RunEvent,
  type RunPlan,
  type RunState,
} from "../../coordinator/run-state.js";
import { workerId, type WorkerId } from "../../src/protocol/identifiers.js";
import { random, type Random } from "./random.js";

const SCHEDULES = 2000;
/** Far more than a schedule needs: passing it means that the run is stuck. */
const MOST_EVENTS = 20_000;

interface Timed {
  readonly at: number;
  readonly order: number;
  readonly event: () => RunEvent | null;
}

/** As `expect`, but cheap enough to be asked millions of times. */
function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

class Simulation {
  private state: RunState;
  private now = 0;
  private order = 0;
  private readonly agenda: Timed[] = [];
  private readonly alive = new Set<WorkerId>();
  private joined = 0;
  private readonly held = new Set<number>();
  private readonly reported = new Set<number>();
  readonly applied: number[] = [];
  readonly checkpoints: number[] = [];
  outcome: string | null = null;

  constructor(
    private readonly draw: Random,
    private readonly plan: RunPlan,
  ) {
    this.state = initialState(plan, 0);
  }

  run(): void {
    for (let worker = 0; worker < 1 + this.draw.below(4); worker++) this.join(this.draw.below(50));
    for (let trouble = 0; trouble < this.draw.below(8); trouble++) this.trouble(this.draw.below(600));
    this.later(10, () => this.tick());
    for (let events = 0; this.outcome === null; events++) {
      if (events > MOST_EVENTS) throw new Error(`stuck in ${JSON.stringify(this.state.phase.kind)} at ${this.now}`);
      this.agenda.sort((a, b) => a.at - b.at || a.order - b.order);
      const next = this.agenda.shift();
      if (next === undefined) throw new Error("nothing is left to happen");
      this.now = Math.max(this.now, next.at);
      const event = next.event();
      if (event !== null) this.take(event);
    }
  }

  private later(delay: number, event: () => RunEvent | null): void {
    this.agenda.push({ at: this.now + delay, order: this.order++, event });
  }

  private tick(): RunEvent {
    this.later(10, () => this.tick());
    // A run that has lost everyone gets a new worker in the end.
    if (this.alive.size === 0) this.join(5);
    for (const worker of this.alive) this.later(this.draw.below(5), () => ({ kind: "heard", worker }));
    return { kind: "tick" };
  }

  private join(delay: number): void {
    const worker = workerId(`w${String(++this.joined)}`);
    this.later(delay, () => {
      this.alive.add(worker);
      return { kind: "worker-joined", worker };
    });
  }

  private trouble(delay: number): void {
    const what = this.draw.pick(["join", "crash", "leave"] as const);
    this.later(delay, () => {
      if (what === "join") this.join(0);
      const victim = this.draw.pick([...this.alive, workerId("nobody")]);
      if (what === "join" || !this.alive.delete(victim)) return null;
      // A crash is noticed by silence alone, a leave is said.
      return what === "leave" ? { kind: "worker-left", worker: victim, reason: "said so" } : null;
    });
  }

  private take(event: RunEvent): void {
    const { state, effects } = transition(this.state, event, this.now);
    this.state = state;
    for (const effect of effects) this.carryOut(effect);
    this.check();
  }

  private carryOut(effect: Effect): void {
    switch (effect.kind) {
      case "open-step":
        this.held.clear();
        this.reported.clear();
        return;
      case "assign": {
        must(this.state.workers.has(effect.worker), `${effect.worker} is not here and gets ranks`);
        let delay = 0;
        for (const rank of effect.ranks) {
          delay += 1 + this.draw.below(12);
          this.answer(effect.worker, effect.step, rank, delay);
          if (this.draw.chance(0.1)) this.answer(effect.worker, effect.step, rank, delay + this.draw.below(60));
        }
        return;
      }
      case "apply":
        must(effect.step === this.state.step, `step ${effect.step} is applied at step ${this.state.step}`);
        must(this.held.size === this.plan.worldSize, `step ${effect.step} is applied with gradients missing`);
        must(this.reported.size === this.plan.worldSize, `step ${effect.step} is applied with results missing`);
        this.applied.push(effect.step);
        this.later(this.draw.below(4), () => ({ kind: "applied", step: effect.step }));
        return;
      case "request-features":
        this.later(1 + this.draw.below(10), () =>
          this.alive.has(effect.worker) ? { kind: "features", step: effect.step, chunk: effect.chunk } : null,
        );
        return;
      case "classify":
        this.later(this.draw.below(20), () => ({ kind: "classified", step: effect.step }));
        return;
      case "checkpoint":
        this.checkpoints.push(effect.step);
        return;
      case "end":
        this.outcome = effect.outcome;
        return;
      case "forget":
        this.alive.delete(effect.worker);
        return;
      case "admit":
      case "publish":
      case "open-evaluation":
      case "explain":
        return;
    }
  }

  /** The two halves of a rank's answer travel apart: keys to the coordinator, gradients by way of the aggregator. */
  private answer(worker: WorkerId, step: number, rank: number, delay: number): void {
    this.later(delay, () => {
      if (!this.alive.has(worker)) return null;
      if (step === this.state.step) this.reported.add(rank);
      return { kind: "rank-result", step, rank };
    });
    this.later(delay + this.draw.below(5), () => {
      if (!this.alive.has(worker)) return null;
      if (step === this.state.step) this.held.add(rank);
      return { kind: "gradients-held", step, ranks: [...this.held] };
    });
  }

  /** What holds after every transition. */
  private check(): void {
    const { phase, workers, step, plan } = this.state;
    must(step <= plan.totalSteps, `step ${step} of ${plan.totalSteps}`);
    if (phase.kind !== "step" && phase.kind !== "evaluating") return;
    const unassigned = new Set(phase.unassigned);
    for (const [unit, holder] of phase.holders) {
      must(workers.has(holder), `unit ${unit} is held by ${holder}, who is gone`);
      must(!unassigned.has(unit), `unit ${unit} is held by ${holder} and by nobody`);
    }
    must(phase.kind !== "step" || workers.size === 0 || unassigned.size === 0, "workers are idle while ranks wait");
  }
}

describe("a run under random schedules", () => {
  it(`applies every step once, in order, and ends, in ${SCHEDULES} schedules`, () => {
    for (let seed = 0; seed < SCHEDULES; seed++) {
      const draw = random(seed);
      const plan: RunPlan = {
        worldSize: 1 + draw.below(9),
        totalSteps: 1 + draw.below(12),
        minWorkers: 1,
        deadAfterMs: 25 + draw.below(50),
        checkpointEverySteps: draw.below(4),
        evaluateEverySteps: draw.below(5),
        featureChunks: 1 + draw.below(6),
      };
      const simulation = new Simulation(draw, plan);
      try {
        simulation.run();
        expect(simulation.outcome).toBe("finished");
        expect(simulation.applied).toEqual([...Array(plan.totalSteps).keys()]);
        expect(simulation.checkpoints.at(-1)).toBe(plan.totalSteps);
      } catch (cause) {
        throw new Error(`schedule of seed ${seed} failed`, { cause });
      }
    }
  });
});

describe("the run's decisions", () => {
  const plan: RunPlan = {
    worldSize: 4,
    totalSteps: 2,
    minWorkers: 2,
    deadAfterMs: 100,
    checkpointEverySteps: 0,
    evaluateEverySteps: 0,
    featureChunks: 0,
  };
  const [a, b] = [workerId("a"), workerId("b")];
  const after = (events: readonly RunEvent[], from = initialState(plan, 0)) =>
    events.reduce<{ state: RunState; effects: readonly Effect[] }>(({ state }, event) => transition(state, event, 0), {
      state: from,
      effects: [],
    });

  it("waits, and says so, while there are fewer than minWorkers", () => {
    const { state, effects } = after([{ kind: "worker-joined", worker: a }]);
    expect(state.phase.kind).toBe("waiting");
    expect(effects).toContainEqual({ kind: "explain", reason: "waiting: 1 of at least 2 workers are here" });
  });

  it("gives each worker a contiguous run of ranks, and a lost worker's to the others within the step", () => {
    const joined = after([
      { kind: "worker-joined", worker: a },
      { kind: "worker-joined", worker: b },
    ]);
    expect(joined.effects).toContainEqual({ kind: "assign", worker: a, step: 0, ranks: [0, 1] });
    expect(joined.effects).toContainEqual({ kind: "assign", worker: b, step: 0, ranks: [2, 3] });
    const left = transition(joined.state, { kind: "worker-left", worker: b, reason: "gone" }, 0);
    expect(left.effects).toContainEqual({ kind: "assign", worker: a, step: 0, ranks: [2, 3] });
  });

  it("buries a worker that is silent for longer than deadAfterMs, and not sooner", () => {
    const { state } = after([{ kind: "worker-joined", worker: a }]);
    expect(transition(state, { kind: "tick" }, 100).state.workers.size).toBe(1);
    const late = transition(state, { kind: "tick" }, 101);
    expect(late.state.workers.size).toBe(0);
    expect(late.effects).toContainEqual({ kind: "forget", worker: a, reason: "silent for 101 ms" });
  });

  it("stops with a checkpoint of a whole step, also in the middle of an update", () => {
    const { state } = after([
      { kind: "worker-joined", worker: a },
      { kind: "worker-joined", worker: b },
      { kind: "gradients-held", step: 0, ranks: [0, 1, 2, 3] },
      ...[0, 1, 2, 3].map((rank): RunEvent => ({ kind: "rank-result", step: 0, rank })),
    ]);
    expect(state.phase.kind).toBe("applying");
    const asked = transition(state, { kind: "stop-requested" }, 0);
    expect(asked.effects).toEqual([]);
    const done = transition(asked.state, { kind: "applied", step: 0 }, 0);
    expect(done.effects.map(({ kind }) => kind)).toEqual(["publish", "checkpoint", "end"]);
    expect(done.state).toMatchObject({ step: 1, phase: { kind: "ended", outcome: "stopped" } });
  });
});
