/**
 * A run in one thread and virtual time: the program's own coordinator, aggregator and worker sessions on a network, disks and
 * clocks that fail as the seed says. What the design promises is checked after every event, and at the end that the run ends.
 */
import type { Aggregator, TrainingState } from "../../coordinator/aggregator.js";
import {
  Aggregators,
  stateOfShard,
  type AggregatorHandle,
  type AggregatorListener,
} from "../../coordinator/aggregators.js";
import { DataPlane } from "../../coordinator/data-plane.js";
import type { OpenEvaluation } from "../../coordinator/evaluation.js";
import type { Scores } from "../../coordinator/evaluation-thread.js";
import { Membership } from "../../coordinator/membership.js";
import { toAll } from "../../coordinator/observers.js";
import { featureChunks } from "../../coordinator/planning.js";
import { initialState, type RunPlan } from "../../coordinator/run-state.js";
import { Server, type RunObserver } from "../../coordinator/server.js";
import { PRESETS } from "../../src/config/presets.js";
import { WeightsOut } from "../../coordinator/weights-out.js";
import { PackedWeights } from "../../coordinator/packed-weights.js";
import type { RunConfig } from "../../src/config/schema.js";
import { WIRE_WEIGHTS, type WireWeights } from "../../src/models/exchange.js";
import { layerSlices } from "../../src/models/treatment.js";
import { KeyQueue } from "../../src/objectives/key-queue.js";
import { fromFrames } from "../../src/protocol/frames.js";
import { parameterShards, type ParameterShard } from "../../src/models/shards.js";
import { runId } from "../../src/protocol/identifiers.js";
import { PROTOCOL_VERSION } from "../../src/protocol/wire.js";
import { Agenda } from "../../src/cli/simulate/agenda.js";
import {
  arena,
  CLIP_NORM,
  featureValues,
  fingerprintOf,
  firstQueue,
  firstState,
  LAYOUT,
  rates,
  newAggregator,
  QUEUE_SIZE,
  RULE,
  stateFingerprint,
  undisturbed,
  wholeState,
  type Numbers,
  type Reference,
} from "./arithmetic.js";
import { Disk, type Stored, type StoredQueue } from "./disk.js";
import { CALM, Network, type Channel, type Direction, type Plane, type Weather } from "./network.js";
import { random, type Random } from "../../src/cli/simulate/random.js";
import { SimulatedWorker, type Surroundings } from "./simulated-worker.js";

/** Drawn from as they stand here: what stands here twice happens twice as often. */
const SCORES: Scores = { knn: 0.5, linear: null, nearest: [] };
const TROUBLES = [
  ...(["crash", "crash", "pause", "drain", "join"] as const),
  ...(["coordinator", "aggregator", "freeze", "cut", "one-way", "both-ways"] as const),
];
export type Trouble = (typeof TROUBLES)[number] | "nothing";

export interface Scenario {
  readonly seed: number;
  readonly workers: number;
  /** chance of a worker to be several times slower than others */
  readonly slow: number;
  /** each with a parameter shard */
  readonly aggregators: number;
  readonly numbers: Numbers;
  readonly wireWeights: WireWeights;
  /** how often the ranks of a step show each other something */
  readonly rounds: number;
  readonly plan: RunPlan;
  /** until when something may go wrong, in ms */
  readonly troubleMs: number;
  /** what may go wrong */
  readonly troubles: readonly Trouble[];
  /** mean time between two troubles, in ms */
  readonly troubleEveryMs: number;
  readonly weather: Weather;
}

/** What a schedule was like. */
export interface Outcome {
  readonly events: number;
  readonly virtualMs: number;
  readonly troubles: Readonly<Record<string, number>>;
  readonly stepsRepeated: number;
  /** times at which steps were finished, in ms */
  readonly stepsAt: readonly number[];
}

/** A run that is not over so long after the last trouble is stuck, in ms. */
const LIVENESS_MS = 120_000;
const MOST_EVENTS = 1_000_000;
const PLANES: readonly Plane[] = ["control", "data"];
const DIRECTIONS: readonly Direction[] = ["up", "down"];
const CHUNKS = featureChunks(4, 2, 2);
const EXPECTED_HOST = {
  protocolVersion: PROTOCOL_VERSION,
  softwareVersion: "simulated",
  host: "h",
  pid: 1,
  threads: 0,
};

/** Everything that varies, from one seed. */
export function scenarioOf(seed: number): Scenario {
  const draw = random(seed);
  const isStormy = draw.chance(0.5);
  const chance = (most: number) => (isStormy ? draw.next() * most : 0.0001);
  return {
    seed,
    workers: 8 + draw.below(2),
    slow: 0.15,
    rounds: draw.pick([0, 0, 0, 0, 0, 0, 1, 3]),
    plan: {
      worldSize: draw.pick([3, 5, 8, 8]),
      totalSteps: 50 + draw.below(2),
      minWorkers: 1 + draw.below(3),
      heartbeatMs: 200,
      deadAfterMs: 700,
      lateQuantile: 0.9,
      checkpointEverySteps: draw.pick([0, 3, 7, 10]),
      evaluateEverySteps: draw.pick([0, 0, 25]),
      featureChunks: CHUNKS.length,
      nonFinite: "skip",
    },
    troubleMs: 4000,
    troubles: TROUBLES,
    troubleEveryMs: draw.pick([150, 400, 1000]),
    weather: {
      loss: chance(0.003),
      doubling: chance(0.01),
      overtaking: chance(0.003),
      delayMs: 1 + draw.below(6),
    },
    aggregators: draw.pick([1, 1, 2, 3]),
    numbers: {
      gradients: draw.pick(["fp32", "fp32", "bf16"] as const),
      precision: draw.pick(["fp32", "bf16"] as const),
    },
    wireWeights: draw.pick(WIRE_WEIGHTS),
  };
}

/** @throws Error where a promise does not hold */
export function simulate(scenario: Scenario): Outcome {
  return new Cluster(scenario).run();
}

function must(holds: boolean, otherwise: () => string): void {
  if (!holds) throw new Error(otherwise());
}

/** One life of the coordinator, from its start to its crash. */
interface Life {
  readonly number: number;
  readonly server: Server;
  readonly aggregators: Aggregators;
  /** one a shard */
  readonly planes: readonly DataPlane[];
  readonly queue: KeyQueue;
  readonly membership: Membership;
  /** one of its aggregators is gone */
  readonly goes: () => void;
  isAlive: boolean;
  frozenUntil: number;
}

class Cluster implements Surroundings {
  readonly agenda = new Agenda();
  readonly draw: Random;
  readonly network: Network;
  readonly seed: number;
  readonly config: RunConfig;
  readonly slow: number;
  readonly rounds: readonly number[];
  readonly numbers: Numbers;
  private readonly reference: Reference;
  private readonly disk: Disk;
  private readonly workers = new Map<number, SimulatedWorker>();
  private readonly channels = new Map<string, Channel>();
  private readonly troubles: Record<string, number> = {};
  private workersMade = 0;
  private lives = 0;
  private life: Life | null = null;
  private isOver = false;
  private furthest = 0;
  private stepsRepeated = 0;
  private readonly stepsAt: number[] = [];

  constructor(private readonly scenario: Scenario) {
    const { seed, plan } = scenario;
    this.seed = seed;
    this.slow = scenario.slow;
    this.numbers = scenario.numbers;
    this.draw = random(seed ^ 0x5bd1e995);
    this.network = new Network(this.agenda, this.draw, scenario.weather);
    this.disk = new Disk(this.agenda, this.draw);
    this.rounds = Array.from({ length: scenario.rounds }, () => 1);
    this.reference = undisturbed(seed, plan, scenario.rounds, scenario.numbers);
    const preset = PRESETS.quickstart;
    this.config = {
      ...preset,
      parallel: { ...preset.parallel, worldSize: plan.worldSize, batchSize: 2 },
      membership: { ...preset.membership, heartbeatMs: plan.heartbeatMs, deadAfterMs: plan.deadAfterMs },
    };
  }

  run(): Outcome {
    const { scenario, agenda } = this;
    this.startCoordinator();
    for (let i = 0; i < scenario.workers; i++) agenda.later(this.draw.below(100), () => this.startWorker());
    this.expectTrouble();
    agenda.later(scenario.troubleMs, () => {
      this.network.weather = CALM;
      this.disk.isSound = true;
    });
    while (!this.isOver) {
      must(agenda.next(), () => "nothing is left to happen, and the run is not over");
      must(agenda.events < MOST_EVENTS, () => `stuck: ${this.situation()}`);
      must(agenda.now < scenario.troubleMs + LIVENESS_MS, () => `not over in time: ${this.situation()}`);
    }
    const last = this.disk.newest();
    must(last?.step === scenario.plan.totalSteps, () => "the last checkpoint is not of the last step");
    const troubles = { ...this.troubles, lost: this.network.lost, doubled: this.network.doubled };
    return {
      events: agenda.events,
      virtualMs: agenda.now,
      troubles,
      stepsRepeated: this.stepsRepeated,
      stepsAt: this.stepsAt,
    };
  }

  private situation(): string {
    const state = this.life?.server.runState;
    return `step ${String(state?.step)}, ${String(state?.phase.kind)}, ${String(state?.workers.size)} workers here`;
  }

  // --- Trouble.

  private expectTrouble(): void {
    const { scenario, agenda, draw } = this;
    agenda.later(scenario.troubleEveryMs * (0.5 + draw.next()), () => {
      if (agenda.now >= scenario.troubleMs) return;
      this.trouble();
      this.expectTrouble();
    });
  }

  private trouble(): void {
    const { draw, agenda } = this;
    const kind = draw.pick(this.scenario.troubles);
    this.troubles[kind] = (this.troubles[kind] ?? 0) + 1;
    const victim = draw.pick([...this.workers.values()]);
    switch (kind) {
      case "nothing":
        return;
      case "crash":
        this.bury(victim);
        agenda.later(draw.below(600), () => this.startWorker());
        return;
      case "pause":
        victim.freeze(draw.below(1500));
        return;
      case "drain":
        victim.session.drain(300);
        agenda.later(400 + draw.below(400), () => {
          this.bury(victim);
          this.startWorker();
        });
        return;
      case "join":
        if (this.workers.size < 12) this.startWorker();
        return;
      case "coordinator":
        this.crashCoordinator();
        return;
      case "aggregator":
        this.life?.goes();
        return;
      case "freeze":
        if (this.life !== null) this.life.frozenUntil = Math.max(this.life.frozenUntil, agenda.now + draw.below(1000));
        return;
      case "cut":
        for (const channel of [...this.channels.values()])
          if (channel.worker === victim.number) this.breakChannel(channel);
        return;
      case "one-way":
        this.network.silence(victim.number, draw.pick(PLANES), draw.pick(DIRECTIONS), draw.below(1500));
        return;
      case "both-ways":
        for (const direction of DIRECTIONS) {
          for (const plane of PLANES) this.network.silence(victim.number, plane, direction, draw.below(1500));
        }
        return;
    }
  }

  private startWorker(): void {
    const number = ++this.workersMade;
    const worker = new SimulatedWorker(number, this, EXPECTED_HOST, () => this.workers.delete(number));
    this.workers.set(number, worker);
    worker.start();
  }

  private bury(worker: SimulatedWorker): void {
    worker.kill();
    this.workers.delete(worker.number);
    for (const channel of [...this.channels.values()]) if (channel.worker === worker.number) this.closed(channel);
  }

  // --- Channels.

  connected(channel: Channel): void {
    channel.life = this.life?.number ?? null;
    this.channels.set(channel.address, channel);
  }

  closed(channel: Channel): void {
    channel.isClosed = true;
    this.channels.delete(channel.address);
  }

  private breakChannel(channel: Channel): void {
    this.closed(channel);
    this.agenda.later(this.draw.next() * 3, channel.broken);
  }

  sendUp(channel: Channel, arrive: (life: Pick<Life, "server" | "planes">) => void): void {
    this.network.carry(channel, "up", () => {
      this.atCoordinator(channel, arrive);
    });
  }

  private atCoordinator(channel: Channel, arrive: (life: Life) => void): void {
    const { life } = this;
    // What a worker sent before its end may arrive after it.
    if (channel.isClosed && (channel.life !== life?.number || this.draw.chance(0.5))) return;
    if (life === null) {
      // Nobody listens there: the connection is refused, or waits for somebody who does.
      if (channel.life !== null) this.breakChannel(channel);
      return;
    }
    if (channel.life === null) channel.life = life.number;
    if (channel.life !== life.number) {
      this.breakChannel(channel);
      return;
    }
    this.whenAwake(life, () => {
      arrive(life);
    });
  }

  private whenAwake(life: Life, act: () => void): void {
    if (!life.isAlive) return;
    if (life.frozenUntil > this.agenda.now) {
      this.agenda.at(life.frozenUntil, () => {
        this.whenAwake(life, act);
      });
      return;
    }
    act();
    this.check(life);
  }

  private sendDown(
    life: Life,
    address: string,
    message: unknown,
    frames: readonly Uint8Array[],
    gone: () => void,
  ): void {
    const channel = this.channels.get(address);
    if (channel === undefined || channel.isClosed) {
      this.agenda.later(0.1, () => {
        this.whenAwake(life, gone);
      });
      return;
    }
    this.network.carry(channel, "down", () => {
      if (!channel.isClosed) channel.deliver(message as never, frames);
    });
  }

  // --- The coordinator.

  private crashCoordinator(): void {
    if (this.life === null) return;
    this.life.isAlive = false;
    this.life = null;
    this.disk.tear();
    for (const channel of [...this.channels.values()]) {
      if (!this.network.isSilent(channel, "down")) this.breakChannel(channel);
    }
    this.agenda.later(50 + this.draw.below(500), () => {
      this.startCoordinator();
    });
  }

  /** The coordinator goes on from its last checkpoint, with as many aggregators as come. */
  private loseAggregator(): void {
    const { life } = this;
    if (life === null) return;
    life.server.dropAll("an aggregator is gone");
    life.isAlive = false;
    this.life = null;
    for (const channel of [...this.channels.values()]) this.breakChannel(channel);
    this.agenda.later(50 + this.draw.below(500), () => {
      this.startCoordinator(life.membership);
    });
  }

  /** @param before of a coordinator that has lost an aggregator */
  private startCoordinator(before: Membership | null = null): void {
    const { scenario, agenda, draw, seed } = this;
    const { plan } = scenario;
    const stored = this.disk.newest();
    const state = stored?.state ?? firstState(seed);
    const queue = stored?.queue ?? firstQueue(seed);
    this.stepsRepeated += this.furthest - state.version;
    this.furthest = state.version;
    const count = before === null ? scenario.aggregators : 1 + draw.below(LAYOUT.parameters.length);
    const shards = parameterShards(LAYOUT, count);
    const members = shards.map((shard) =>
      newAggregator(plan.worldSize, scenario.numbers, shard.layout, stateOfShard(state, shard)),
    );
    const ownQueue = KeyQueue.restore(queue.keys, QUEUE_SIZE, 1, queue.position);
    const door = {
      ...{ runId: runId("run"), config: this.config, softwareVersion: "simulated" },
      ...{ manifestHash: "manifest", rounds: null, newTicket: () => String(draw.next()) },
      overlaps: draw.chance(0.5),
    };
    const membership = before ?? new Membership(door, null);
    membership.aggregators = shards.map(() => ({ port: 1 }));
    const number = ++this.lives;
    const captures: ((state: TrainingState) => void)[] = [];
    const planes: DataPlane[] = [];
    const handles = members.map((aggregator, index) => {
      const { handle, plane, goes: gone } = this.startAggregator(shards[index], aggregator, () => life);
      planes.push(plane);
      return { ...handle, goes: gone };
    });
    const clipNorm = CLIP_NORM;
    const aggregators = new Aggregators({ layout: LAYOUT, shards, rule: RULE, clipNorm }, handles, {
      reported: (report) => {
        if (report.kind === "captured") captures.shift()?.(report.state);
        else server.reported(report);
      },
      failed: (error) => {
        throw error;
      },
      gone: () => {
        this.loseAggregator();
      },
      leaving: () => undefined,
    });
    const server = new Server(
      {
        membership,
        queue: ownQueue,
        schedule: { stepsPerEpoch: 10, totalSteps: plan.totalSteps, globalBatch: plan.worldSize, rates },
        keysPerRank: 1,
        initial: initialState(plan, state.version),
      },
      {
        now: () => agenda.now,
        send: (peer, message, frames) => {
          this.sendDown(life, peer, message, frames, () => {
            server.unreachable(peer);
          });
        },
        command: (command) => {
          aggregators.command(command);
        },
        openEvaluation: (step) => new SimulatedEvaluation(step, members, scenario.numbers),
        classify: (evaluation) => {
          agenda.later(draw.below(30), () => {
            this.whenAwake(life, () => {
              server.classified(evaluation.step, SCORES);
            });
          });
        },
        checkpoint: (step) => {
          const keys = { keys: ownQueue.keys.slice(), position: ownQueue.position };
          captures.push((taken) => {
            this.write(life, step, keys, taken);
          });
          aggregators.command({ kind: "capture" });
        },
        digest: (values) => String(fingerprintOf(values)),
        countCorrupt: () => undefined,
        ended: ({ outcome }) => {
          must(outcome === "finished", () => `the run has ${outcome}`);
          this.isOver = true;
        },
        observer: this.observerOf(members, ownQueue),
      },
    );
    const goes = () => handles[0]?.goes();
    const life: Life = {
      ...{ number, server, aggregators, planes, queue: ownQueue, membership, goes, isAlive: true, frozenUntil: 0 },
    };
    this.life = life;
    this.tick(life);
  }

  /** An aggregator is a thread: it takes one command after another, a little later, and updates take their time. */
  private startAggregator(
    { layout }: ParameterShard,
    aggregator: Aggregator,
    life: () => Life,
  ): { readonly handle: AggregatorHandle; readonly plane: DataPlane; readonly goes: () => void } {
    const { agenda, draw, scenario } = this;
    let listener: AggregatorListener | null = null;
    let freeAt = 0;
    const layers = layerSlices(layout, { decayNormAndBias: false, exclude: [] }, scenario.numbers.precision);
    const now = () => agenda.now;
    const packed = new PackedWeights(arena, aggregator.buckets, layers, now);
    const weightsOut = new WeightsOut("run", layout, aggregator, packed, scenario.wireWeights);
    const plane = new DataPlane("run", scenario.plan.deadAfterMs, aggregator, weightsOut, {
      now,
      send: (address, message, frames) => {
        this.sendDown(life(), address, message, frames, () => {
          plane.unreachable(address);
        });
      },
      report: (report) => {
        agenda.later(0.05, () => {
          this.whenAwake(life(), () => listener?.reported(report));
        });
      },
      openSegment: () => null,
      sharedStates: null,
      digestOf: ({ query, key, queryBuffers }) => String(fingerprintOf(query, key, queryBuffers)),
    });
    const handle: AggregatorHandle = {
      command: (command) => {
        freeAt = Math.max(agenda.now, freeAt) + (command.kind === "apply" ? draw.next() * 10 : 0.05);
        agenda.at(freeAt, () => {
          this.whenAwake(life(), () => {
            plane.obey(command);
          });
        });
      },
      listen: (heard) => {
        listener = heard;
      },
    };
    const goes = () => {
      agenda.later(0.05, () => {
        this.whenAwake(life(), () => listener?.gone("it has crashed"));
      });
    };
    return { handle, plane, goes };
  }

  private tick(life: Life): void {
    this.agenda.later(this.scenario.plan.heartbeatMs, () => {
      if (!life.isAlive) return;
      this.whenAwake(life, () => {
        for (const plane of life.planes) plane.obey({ kind: "tick" });
        life.server.tick();
      });
      this.tick(life);
    });
  }

  /** As the coordinator's shell does: the aggregators hand their state out, the writer's thread takes its time. */
  private write(life: Life, step: number, queue: StoredQueue, state: TrainingState): void {
    must(state.version === step, () => `a checkpoint of ${String(step)} met the state of ${String(state.version)}`);
    this.disk.write(step, state, queue, (stored) => {
      if (!life.isAlive) return;
      this.whenAwake(life, () => {
        life.aggregators.command({ kind: "release", version: step });
        if (stored === null) life.server.checkpointFailed(step, "the disk is full");
        else {
          this.checkStored(stored);
          life.server.checkpointWritten(step, "", []);
        }
      });
    });
  }

  private checkStored({ step, state, queue }: Stored): void {
    const expected = this.reference.after[step];
    must(
      stateFingerprint(state, queue.keys) === expected,
      () => `the checkpoint of step ${String(step)} has other bits`,
    );
  }

  private observerOf(aggregators: readonly Aggregator[], queue: KeyQueue): RunObserver {
    const stepOver = (step: number) => {
      must(step === this.furthest + 1, () => `step ${String(step)} came after ${String(this.furthest)}`);
      this.furthest = step;
      this.stepsAt.push(this.agenda.now);
      for (const { state } of aggregators)
        must(state.version === step, () => `step ${String(step)} with weights ${String(state.version)}`);
      const bits = stateFingerprint(wholeState(aggregators), queue.keys);
      must(bits === this.reference.after[step], () => `other bits after step ${String(step)}`);
    };
    return toAll({
      stepDone: ({ step }) => {
        must(!this.reference.skipped.has(step - 1), () => `step ${String(step)} should have been skipped`);
        stepOver(step);
      },
      stepSkipped: (step) => {
        must(this.reference.skipped.has(step - 1), () => `step ${String(step)} was skipped for nothing`);
        stepOver(step);
      },
    });
  }

  /** What holds after every event. */
  private check({ server }: Life): void {
    const { phase, workers, step, plan } = server.runState;
    must(step <= plan.totalSteps, () => `step ${String(step)} of ${String(plan.totalSteps)}`);
    if (!("work" in phase)) return;
    const { holders, unassigned } = phase.work;
    for (const [unit, held] of holders) {
      for (const holder of held)
        must(workers.has(holder), () => `unit ${String(unit)} is held by ${holder}, who is gone`);
      must(held.length <= 2, () => `unit ${String(unit)} is held by ${held.join()}`);
      must(!unassigned.includes(unit), () => `unit ${String(unit)} is held and not held`);
    }
    if (phase.kind === "evaluating" || unassigned.length === 0) return;
    for (const { drains } of workers.values()) must(drains, () => "workers are idle while ranks wait");
  }
}

/** An evaluation that knows what must come. */
class SimulatedEvaluation implements OpenEvaluation {
  readonly chunks = CHUNKS;

  constructor(
    readonly step: number,
    private readonly aggregators: readonly Aggregator[],
    private readonly numbers: Numbers,
  ) {}

  accept(chunk: number, frames: readonly Uint8Array[]): void {
    const given = new Float32Array(1);
    fromFrames(frames, given);
    const { query, key, queryBuffers: buffers } = wholeState(this.aggregators);
    const expected = featureValues(this.step, chunk, { query, key, buffers }, this.numbers);
    must(given[0] === expected[0], () => `other features of chunk ${String(chunk)} at step ${String(this.step)}`);
  }

  classify(): Promise<Scores> {
    return Promise.resolve(SCORES);
  }
}
