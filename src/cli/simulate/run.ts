/**
 * A run in virtual time: the program's own coordinator, aggregators and sessions on a described network, with a model of one value a
 * bucket in place of the real one, whose bytes travel and whose arithmetic takes its time.
 */
import { Aggregator, type TrainingState } from "../../../coordinator/aggregator.js";
import {
  Aggregators,
  stateOfShard,
  type AggregatorHandle,
  type AggregatorListener,
} from "../../../coordinator/aggregators.js";
import { DataPlane } from "../../../coordinator/data-plane.js";
import { Membership } from "../../../coordinator/membership.js";
import { PackedWeights } from "../../../coordinator/packed-weights.js";
import { initialState } from "../../../coordinator/run-state.js";
import { toAll } from "../../../coordinator/observers.js";
import { Server } from "../../../coordinator/server.js";
import { WeightsOut } from "../../../coordinator/weights-out.js";
import { PRESETS } from "../../config/presets.js";
import type { RunConfig } from "../../config/schema.js";
import { parameterBuckets } from "../../models/buckets.js";
import { LayoutBuilder, type ParameterLayout } from "../../models/parameters.js";
import { parameterShards } from "../../models/shards.js";
import { layerSlices } from "../../models/treatment.js";
import { KeyQueue } from "../../objectives/key-queue.js";
import { VectorArena } from "../../optim/index.js";
import { runId } from "../../protocol/identifiers.js";
import type { AggregatorMessage, CoordinatorMessage, WorkerMessage } from "../../protocol/wire.js";
import { Agenda } from "./agenda.js";
import { Network, Way, type Endpoint, type Machine } from "./network.js";
import { Processor } from "./processor.js";
import { random, type Random } from "./random.js";
import { GRADIENT_BYTES, WEIGHT_BYTES, type RankTime, type Scenario, type Simulated } from "./scenario.js";
import { SimulatedWorker } from "./worker.js";

const RULE = { kind: "sgd", momentum: 0.9, weightDecay: 0 } as const;
const EVERYTHING_DECAYS = { decayNormAndBias: true, exclude: [] };
/** Of a message beside its tensors, in bytes: ZeroMQ's frames and protobuf. */
const HEADER_BYTES = 80;
/** Rows of the simulated queue for each rank. */
const QUEUE_STEPS = 2;
/** The first step begins while workers still join. */
const WARM_UP_STEPS = 2;
/** Steps that count; of so many devices on, fewer do. */
const [STEPS, FEW_STEPS, MANY_DEVICES] = [8, 2, 64];
const MOST_EVENTS = 200_000_000;
/** Between two threads of a process, in ms. */
const THREAD_HOP_MS = 0.02;
/** A worker that is welcomed one after the other, in ms. */
const JOINS_EVERY_MS = 0.5;

/** Where a worker is, and its connections. */
interface WorkerHome {
  readonly endpoint: Endpoint;
  readonly toCoordinator: Way;
  readonly fromCoordinator: Way;
  readonly toAggregators: readonly Way[];
  readonly fromAggregators: readonly Way[];
}

/** A shard of the real model, as it travels. */
interface ShardBytes {
  readonly values: number;
  readonly buckets: readonly number[];
}

/** @returns how the real model is cut, and a layout of one value a bucket that is cut into as many shards and buckets */
function model({ payload }: Scenario, aggregators: number): { shards: readonly ShardBytes[]; layout: ParameterLayout } {
  const real = layoutOf(payload.tensors);
  const shards = parameterShards(real, aggregators).map(({ layout }) => ({
    values: layout.parameterCount,
    buckets: parameterBuckets(layout).map(({ size }) => size),
  }));
  const most = Math.max(...shards.map(({ buckets }) => buckets.length));
  return { shards, layout: layoutOf(new Array<number>(aggregators * most).fill(1)) };
}

function layoutOf(sizes: readonly number[]): ParameterLayout {
  const builder = new LayoutBuilder();
  for (const [index, size] of sizes.entries()) builder.parameter(String(index), [size, 1], "dense");
  return builder.build();
}

/** Devices of each worker on each machine: a process a device, or one a machine. */
function workersOf({
  arrangement,
  devices,
  devicesPerMachine,
  missingMachines,
}: Scenario): readonly (readonly number[])[] {
  const machines = Math.ceil(devices / devicesPerMachine);
  const all = Array.from({ length: machines }, (_, machine) => {
    const here = Math.min(devicesPerMachine, devices - machine * devicesPerMachine);
    return arrangement === "hierarchical" ? [here] : new Array<number>(here).fill(1);
  });
  return all.slice(0, machines - missingMachines);
}

/** Aggregators of a scenario: one a machine, as far as there may be so many, and tensors enough. */
export function aggregatorsOf({ arrangement, devices, devicesPerMachine, mostAggregators, payload }: Scenario): number {
  if (arrangement === "embedded") return 1;
  return Math.min(Math.ceil(devices / devicesPerMachine), mostAggregators, payload.tensors.length);
}

export function simulateRun(scenario: Scenario): Simulated {
  return new SimulatedRun(scenario).run();
}

/** What is busy where all is well. */
export const DEVICES = "devices";

class SimulatedRun {
  private readonly agenda = new Agenda();
  private readonly arena = new VectorArena();
  private readonly draw: Random;
  private readonly network: Network;
  private readonly workers = new Map<string, SimulatedWorker>();
  private readonly coordinator: Processor;
  private readonly planes: DataPlane[] = [];
  private readonly planeThreads: Processor[] = [];
  private readonly server: Server;
  private readonly model: ReturnType<typeof model>;
  private readonly aggregators: number;
  private readonly stepTimes: number[] = [];
  private measuredFrom = 0;
  private readonly homes: {
    readonly coordinator: Endpoint;
    readonly aggregators: Endpoint[];
    readonly workers: Map<string, WorkerHome>;
  };
  private readonly workerCount: number;
  private readonly deviceCount: number;

  constructor(private readonly scenario: Scenario) {
    const { costs, network, seed, missingMachines } = scenario;
    this.draw = random(seed);
    this.network = new Network(this.agenda, network, costs.hopMs, 1 / (costs.ioGbytes * 1e6));
    this.coordinator = new Processor(this.agenda);
    this.aggregators = aggregatorsOf(scenario);
    this.model = model(scenario, this.aggregators);
    const own = this.network.newMachine();
    const present = workersOf(scenario);
    // Aggregators stay where a machine's workers are missing: they are another's by now.
    const machines = Array.from({ length: present.length + missingMachines }, () => this.network.newMachine());
    this.homes = { coordinator: this.network.newEndpoint(own), aggregators: [], workers: new Map() };
    for (let index = 0; index < this.aggregators; index++) {
      const machine = scenario.arrangement === "embedded" ? own : machines[index % machines.length];
      this.homes.aggregators.push(this.network.newEndpoint(machine));
    }
    this.workerCount = present.flat().length;
    this.deviceCount = present.flat().reduce((sum, devices) => sum + devices, 0);
    this.server = this.startCoordinator();
    let number = 0;
    for (const [machine, workers] of present.entries())
      for (const devices of workers) {
        const own = ++number;
        this.homes.workers.set(String(own), this.newHome(machines[machine]));
        this.agenda.later(own * JOINS_EVERY_MS, () => {
          this.startWorker(own, devices);
        });
      }
  }

  run(): Simulated {
    const { agenda } = this;
    const steps = this.totalSteps;
    while (this.stepTimes.length < steps) {
      if (!agenda.next() || agenda.events > MOST_EVENTS) throw new Error("the simulated run is stuck");
    }
    const counted = this.stepTimes.slice(WARM_UP_STEPS);
    const elapsed = agenda.now - this.measuredFrom;
    return {
      stepMs: counted.reduce((sum, ms) => sum + ms, 0) / counted.length,
      aggregators: this.aggregators,
      busy: this.busy(elapsed),
      idleShare: this.idleShare(elapsed),
      events: agenda.events,
    };
  }

  private get totalSteps(): number {
    return WARM_UP_STEPS + (this.scenario.devices > MANY_DEVICES ? FEW_STEPS : STEPS);
  }

  /** A link is as busy as both of its directions: gradients take one, and the weights that follow the other. */
  private busy(elapsed: number): Simulated["busy"] {
    const { coordinator, aggregators, workers } = this.homes;
    const isEmbedded = this.scenario.arrangement === "embedded";
    const processes = [...workers.values()].map(({ endpoint }) => endpoint);
    const most = (what: string, times: readonly number[]) => ({
      what,
      share: Math.min(1, Math.max(...times) / elapsed),
    });
    const links = (what: string, of: readonly Endpoint[]) =>
      most(
        what,
        of.map(({ machine }) => machine.in.busyMs + machine.out.busyMs),
      );
    const found = [
      most(
        DEVICES,
        [...this.workers.values()].map(({ computeMs, devices }) => computeMs / devices),
      ),
      most("coordinator's thread", [this.coordinator.busyMs]),
      most(
        isEmbedded ? "aggregator's thread" : "aggregators' threads",
        this.planeThreads.map(({ busyMs }) => busyMs),
      ),
      links("coordinator's link", [coordinator]),
      ...(isEmbedded ? [] : [links("aggregators' links", aggregators)]),
      ...(isEmbedded ? [links("workers' links", processes)] : []),
      most("switch", [this.network.coreBusyMs]),
      most(
        "network threads",
        [coordinator, ...aggregators, ...processes].map(({ io }) => io.busyMs),
      ),
    ];
    return found.sort((a, b) => b.share - a.share);
  }

  private idleShare(elapsed: number): number {
    const compute = [...this.workers.values()].reduce((sum, { computeMs }) => sum + computeMs, 0);
    return 1 - compute / (this.deviceCount * elapsed);
  }

  private stepDone(stepMs: number): void {
    this.stepTimes.push(stepMs);
    if (this.stepTimes.length !== WARM_UP_STEPS) return;
    this.measuredFrom = this.agenda.now;
    this.network.reset();
    this.coordinator.reset();
    for (const thread of this.planeThreads) thread.reset();
    for (const worker of this.workers.values()) worker.reset();
    const { coordinator, aggregators, workers } = this.homes;
    for (const { io } of [coordinator, ...aggregators, ...[...workers.values()].map(({ endpoint }) => endpoint)])
      io.reset();
  }

  private newHome(machine: Machine): WorkerHome {
    const endpoint = this.network.newEndpoint(machine);
    const { coordinator, aggregators } = this.homes;
    return {
      ...{ endpoint, toCoordinator: new Way(endpoint, coordinator), fromCoordinator: new Way(coordinator, endpoint) },
      toAggregators: aggregators.map((aggregator) => new Way(endpoint, aggregator)),
      fromAggregators: aggregators.map((aggregator) => new Way(aggregator, endpoint)),
    };
  }

  private home(worker: string): WorkerHome {
    const home = this.homes.workers.get(worker);
    if (home === undefined) throw new Error(`no worker ${worker}`);
    return home;
  }

  // --- Bytes.

  private controlBytes(message: CoordinatorMessage | WorkerMessage): number {
    const { worldSize, payload } = this.scenario;
    if (message.body === "rankResult") return HEADER_BYTES + payload.keyBytesPerRank;
    if (message.body === "queueBlock") return HEADER_BYTES + payload.keyBytesPerRank * worldSize;
    if (message.body === "queueSnapshot") return HEADER_BYTES + payload.keyBytesPerRank * worldSize * QUEUE_STEPS;
    return HEADER_BYTES;
  }

  private gradientBytes(shard: number): number {
    return HEADER_BYTES + this.model.shards[shard].values * GRADIENT_BYTES[this.scenario.payload.gradients];
  }

  private weightsBytes(shard: number, message: AggregatorMessage): number {
    if (message.body !== "weights") return HEADER_BYTES;
    const { bucket, keyMomentum } = message.weights;
    const values = this.model.shards[shard].buckets[bucket ?? 0] ?? 0;
    // Whole weights, which only come at the beginning, bring θk too.
    const isFollowed = keyMomentum != null;
    return HEADER_BYTES + values * (isFollowed ? WEIGHT_BYTES[this.scenario.payload.weights] : 2 * WEIGHT_BYTES.fp32);
  }

  // --- Parties.

  private startWorker(number: number, devices: number): void {
    const { scenario, agenda, arena, draw, model } = this;
    const { costs, rankTimes, stragglers, worldSize, payload } = scenario;
    const name = String(number);
    const home = this.home(name);
    const million = payload.tensors.reduce((sum, size) => sum + size, 0) / 1e6;
    const paces = Array.from({ length: devices }, () => (draw.chance(stragglers.share) ? stragglers.factor : 1));
    const worker = new SimulatedWorker(number, devices, {
      ...{ agenda, arena, worldSize, layout: model.layout, messageMs: costs.messageMs, random: draw.next },
      tickMs: heartbeatOf(scenario) / 4,
      ...{ sumMs: costs.sumMs * million, loadMs: costs.loadMs * million },
      rankTime: (device): RankTime => {
        const { forwardMs, backwardMs } = draw.pick(rankTimes);
        return { forwardMs: forwardMs * paces[device], backwardMs: backwardMs * paces[device] };
      },
      say: (message, frames, at) => {
        this.network.carry(home.toCoordinator, this.controlBytes(message), at, () => {
          this.coordinator.post(costs.messageMs, () => {
            this.server.received(name, message, frames);
          });
        });
      },
      tell: (aggregator, message, frames, at) => {
        const isGradient = message.body === "gradient";
        const bytes = isGradient ? this.gradientBytes(aggregator) : HEADER_BYTES;
        const sumMs = isGradient ? (costs.sumMs * this.model.shards[aggregator].values) / 1e6 : 0;
        const way = home.toAggregators[aggregator];
        this.network.carry(way, bytes, at, () => {
          this.planeThreads[aggregator].post(costs.messageMs + sumMs, () => {
            this.planes[aggregator].received(name, message, frames);
          });
        });
      },
    });
    this.workers.set(name, worker);
    worker.start();
  }

  private startAggregator(index: number, layout: ParameterLayout, aggregator: Aggregator): AggregatorHandle {
    const { scenario, agenda, coordinator } = this;
    const { costs } = scenario;
    const thread = new Processor(agenda);
    const now = () => thread.time;
    const packed = new PackedWeights(this.arena, aggregator.buckets, layerSlices(layout, EVERYTHING_DECAYS), now);
    const weights = new WeightsOut("run", layout, aggregator, packed, "fp32");
    const { buckets } = this.model.shards[index];
    // What a thread of the coordinator's says needs no socket.
    const isThread = scenario.arrangement === "embedded";
    const hop = isThread ? THREAD_HOP_MS : costs.hopMs + scenario.network.latencyMs;
    const callMs = isThread ? 0 : costs.messageMs;
    let listener: AggregatorListener | null = null;
    /** buckets of the update under way that have been sent */
    let sent = 0;
    const plane: DataPlane = new DataPlane("run", DEAD_AFTER_MS, aggregator, weights, {
      now,
      send: (worker, message, frames) => {
        const isUpdate = message.body === "weights" && message.weights.keyMomentum != null;
        if (isUpdate && (message.weights.bucket ?? 0) === sent) {
          thread.charge((costs.updateMs * (buckets[sent] ?? 0)) / 1e6);
          sent++;
        }
        thread.charge(costs.messageMs);
        const way = this.home(worker).fromAggregators[index];
        this.network.carry(way, this.weightsBytes(index, message), thread.time, () => {
          this.workers.get(worker)?.heardData(index, message, frames);
        });
      },
      report: (report) => {
        thread.charge(callMs);
        agenda.at(thread.time + hop, () => {
          coordinator.post(callMs, () => listener?.reported(report));
        });
      },
      openSegment: () => null,
      sharedStates: null,
      digestOf: () => "",
    });
    this.planes.push(plane);
    this.planeThreads.push(thread);
    return {
      command: (command) => {
        coordinator.charge(callMs);
        agenda.at(coordinator.time + hop, () => {
          thread.post(callMs, () => {
            sent = 0;
            plane.obey(command);
          });
        });
      },
      listen: (heard) => {
        listener = heard;
      },
    };
  }

  private startCoordinator(): Server {
    const { scenario, agenda, coordinator, arena } = this;
    const { worldSize, costs, overlaps } = scenario;
    const { layout } = this.model;
    const zeros = (length: number) => new Float32Array(length);
    const state: TrainingState = {
      ...{ version: 0, updates: 0, query: zeros(layout.parameterCount), key: zeros(layout.parameterCount) },
      ...{ optimizer: [zeros(layout.parameterCount)], queryBuffers: zeros(0), keyBuffers: zeros(0) },
    };
    const shards = parameterShards(layout, this.aggregators);
    const handles = shards.map((shard, index) => {
      const own = layerSlices(shard.layout, EVERYTHING_DECAYS);
      const buckets = parameterBuckets(shard.layout, 1);
      const options = { layout: shard.layout, buckets, worldSize, gradients: "fp32", rule: RULE, layers: own } as const;
      return this.startAggregator(index, shard.layout, new Aggregator(options, stateOfShard(state, shard), arena));
    });
    const rates = () => ({ learningRate: 0, keyMomentum: 0.9 });
    const queueSize = QUEUE_STEPS * worldSize;
    const config = configOf(scenario, queueSize);
    const door = {
      ...{ runId: runId("run"), config, softwareVersion: "simulated", manifestHash: "manifest", rounds: [] },
      ...{ overlaps, newTicket: () => String(this.draw.next()) },
    };
    const membership = new Membership(door, null);
    membership.aggregators = shards.map(() => ({ port: 1 }));
    const aggregators = new Aggregators({ layout, shards, rule: RULE, clipNorm: null }, handles, {
      reported: (report) => {
        server.reported(report);
      },
      failed: (error) => {
        throw error;
      },
      ...{ gone: () => undefined, leaving: () => undefined },
    });
    const { heartbeatMs, lateQuantile } = config.membership;
    const plan = {
      ...{ worldSize, totalSteps: this.totalSteps + 1, minWorkers: this.workerCount, heartbeatMs },
      ...{ deadAfterMs: DEAD_AFTER_MS, lateQuantile, checkpointEverySteps: 0, evaluateEverySteps: 0 },
      ...{ featureChunks: 0, nonFinite: "stop" as const },
    };
    const nothing = () => {
      throw new Error("nothing is evaluated or stored");
    };
    const server: Server = new Server(
      {
        membership,
        queue: KeyQueue.restore(new Float32Array(queueSize), queueSize, 1, 0),
        schedule: {
          stepsPerEpoch: this.totalSteps + 1,
          totalSteps: this.totalSteps + 1,
          globalBatch: worldSize,
          rates,
        },
        keysPerRank: 1,
        initial: initialState(plan, 0),
      },
      {
        now: () => coordinator.time,
        send: (worker, message, frames) => {
          coordinator.charge(costs.messageMs);
          const way = this.home(worker).fromCoordinator;
          this.network.carry(way, this.controlBytes(message), coordinator.time, () => {
            this.workers.get(worker)?.heard(message, frames);
          });
        },
        command: (command) => {
          aggregators.command(command);
        },
        ...{ openEvaluation: nothing, classify: nothing, checkpoint: nothing, digest: () => "" },
        ...{ countCorrupt: () => undefined, ended: () => undefined },
        observer: toAll({
          stepDone: ({ stepMs }) => {
            this.stepDone(stepMs);
          },
        }),
      },
    );
    const tick = () => {
      coordinator.post(costs.messageMs, () => {
        for (const handle of handles) handle.command({ kind: "tick" });
        server.tick();
      });
      agenda.later(heartbeatMs, tick);
    };
    tick();
    return server;
  }
}

const MOST_HEARTBEAT_MS = 600_000;
/** Nobody is given up: what takes long in a simulation takes long. In ms. */
const DEAD_AFTER_MS = 3_600_000;

/** Heartbeats are as seldom as they may be without a step that notices: they cost the simulation more than the run. */
function heartbeatOf(scenario: Scenario): number {
  const { heartbeatMs: usual } = PRESETS.quickstart.membership;
  const { payload, network, costs, devices, worldSize } = scenario;
  const values = payload.tensors.reduce((sum, size) => sum + size, 0);
  const bytes = values * (GRADIENT_BYTES[payload.gradients] + WEIGHT_BYTES[payload.weights]);
  const keys = payload.keyBytesPerRank * worldSize * devices;
  const busiest = Math.max(keys, (bytes * devices) / aggregatorsOf(scenario));
  const bytesPerMs = Math.min(network.gbits / 8, costs.ioGbytes) * 1e6;
  return Math.min(MOST_HEARTBEAT_MS, Math.max(usual, Math.round(busiest / bytesPerMs)));
}

function configOf(scenario: Scenario, queueSize: number): RunConfig {
  const { worldSize } = scenario;
  const { quickstart } = PRESETS;
  return {
    ...quickstart,
    moco: { ...quickstart.moco, queueSize },
    parallel: { ...quickstart.parallel, worldSize, batchSize: 2 },
    membership: { ...quickstart.membership, heartbeatMs: heartbeatOf(scenario), deadAfterMs: DEAD_AFTER_MS },
  };
}
