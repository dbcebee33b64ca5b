/** A worker's process in virtual time: the program's own session, with devices that take time and compute nothing. */
import { parameterBuckets } from "../../models/buckets.js";
import { gradientSlice } from "../../models/exchange.js";
import type { ParameterLayout } from "../../models/parameters.js";
import { sliceOf, type ParameterShard } from "../../models/shards.js";
import { SumTree, type VectorArena } from "../../optim/index.js";
import type { AggregatorMessage, CoordinatorMessage, WorkerDataMessage, WorkerMessage } from "../../protocol/wire.js";
import { PROTOCOL_VERSION } from "../../protocol/wire.js";
import type { HandedOut, SessionPorts } from "../../../worker/session-ports.js";
import { WorkerSession } from "../../../worker/session.js";
import { ShardedWeights } from "../../../worker/sharded-weights.js";
import type { Agenda } from "./agenda.js";
import { Processor } from "./processor.js";
import type { RankTime } from "./scenario.js";

/** What a worker meets. */
export interface Surroundings {
  readonly agenda: Agenda;
  readonly arena: VectorArena;
  readonly layout: ParameterLayout;
  readonly worldSize: number;
  readonly messageMs: number;
  /** how often its session looks at the clock */
  readonly tickMs: number;
  /** a rank on one of the worker's devices, by their numbers */
  readonly rankTime: (device: number) => RankTime;
  /** that the sum of two gradients takes, and the taking in of new weights, in ms */
  readonly sumMs: number;
  readonly loadMs: number;
  readonly random: () => number;
  /** @param at when it leaves */
  readonly say: (message: WorkerMessage, frames: readonly Uint8Array[], at: number) => void;
  readonly tell: (aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[], at: number) => void;
}

const UNMEASURED = { accuracy: 0, positiveSimilarity: 0, negativeSimilarity: 0, loadMs: 0, graphMs: 0, loss: 0 };
/** The simulated model's keys are one value a rank. */
const KEY = new Float32Array(1);

export class SimulatedWorker {
  /** of all devices, in ms, since `reset` */
  computeMs = 0;
  readonly thread: Processor;
  private readonly session: WorkerSession;
  private readonly weights: ShardedWeights;
  private readonly sums: SumTree;
  private readonly freeAt: number[];
  private shards: readonly ParameterShard[] = [];
  private lent: Float32Array[] = [];
  private step = -1;

  constructor(
    number: number,
    readonly devices: number,
    private readonly world: Surroundings,
  ) {
    const { agenda, arena, layout, worldSize } = world;
    this.thread = new Processor(agenda);
    this.weights = new ShardedWeights(layout, false, arena, (shard) => parameterBuckets(shard, 1));
    this.sums = new SumTree(worldSize, arena, 0);
    this.freeAt = new Array<number>(devices).fill(0);
    const hello = {
      ...{
        protocolVersion: PROTOCOL_VERSION,
        softwareVersion: "simulated",
        host: `worker-${String(number)}`,
        pid: number,
      },
      ...{ threads: 0, instance: number.toString(16).padStart(32, "0") },
    };
    this.session = new WorkerSession({ endpoint: "tcp://coordinator:1", hello, patienceMs: Infinity }, this.ports());
  }

  start(): void {
    this.thread.post(0, () => {
      this.session.start();
    });
    this.tick();
  }

  heard(message: CoordinatorMessage, frames: readonly Uint8Array[]): void {
    this.thread.post(this.world.messageMs, () => {
      this.session.heard(1, message, frames);
    });
  }

  heardData(aggregator: number, message: AggregatorMessage, frames: readonly Uint8Array[]): void {
    this.thread.post(this.world.messageMs, () => {
      this.session.heardData(1, aggregator, message, frames);
    });
  }

  reset(): void {
    this.computeMs = 0;
    this.thread.reset();
  }

  private tick(): void {
    this.world.agenda.later(this.world.tickMs, () => {
      this.thread.post(0, () => {
        this.session.tick();
      });
      this.tick();
    });
  }

  /** Work for a device, behind whatever it has been given; what comes of it is heard by the session's thread. */
  private onDevice(device: number, ms: number, done: () => void): void {
    const { agenda, messageMs } = this.world;
    this.freeAt[device] = Math.max(this.thread.time, this.freeAt[device]) + ms;
    agenda.at(this.freeAt[device], () => {
      this.thread.post(messageMs, done);
    });
  }

  private ports(): SessionPorts {
    const { world } = this;
    const { agenda } = world;
    return {
      now: () => this.thread.time,
      random: world.random,
      connect: () => undefined,
      disconnect: () => undefined,
      say: (message, frames) => {
        this.thread.charge(world.messageMs);
        world.say(message, frames, this.thread.time);
      },
      tell: (aggregator, message, frames) => {
        this.tell(aggregator, message, frames);
      },
      openData: (_link, aggregators, open) => {
        this.shards = this.weights.cut(aggregators.length);
        this.weights.restart([]);
        for (const aggregator of aggregators.keys()) this.tell(aggregator, open, []);
      },
      samplesAt: () => undefined,
      prepare: () => {
        this.thread.post(0, () => {
          this.session.prepared({
            ...{ manifestHash: "manifest", splitLengths: { train: 1, test: 1 }, engineFingerprint: "simulated" },
            ...{ tensors: world.layout.parameters.length, device: "simulated", devices: this.devices },
            ...{ takesBfloat16: false, rounds: [] },
          });
        });
      },
      prove: (link) => {
        this.thread.post(0, () => {
          this.session.proved(link, null);
        });
      },
      takeMemory: () => undefined,
      takeWeights: (aggregator, header, frames) => this.weights.take(aggregator, header, frames),
      loadWeights: (link) => {
        // What was given to a device before is done before.
        for (const device of this.freeAt.keys())
          this.freeAt[device] = Math.max(this.thread.time, this.freeAt[device]) + world.loadMs;
        agenda.at(Math.max(...this.freeAt), () => {
          this.thread.post(world.messageMs, () => {
            this.session.weightsLoaded(link);
          });
        });
      },
      setQueue: () => undefined,
      appendKeys: () => undefined,
      embed: () => {
        throw new Error("no rank shows anything");
      },
      setEmbeddings: () => undefined,
      run: (link, device, step, rank, flush, early) => {
        this.run(link, device, step, rank, flush, early);
      },
      flush: (link, step) => {
        // Each device's sum is added to the others'.
        this.onDevice(0, world.sumMs * this.devices, () => {
          this.session.flushed(link, step, this.takeSums(step));
        });
      },
      prefetch: () => undefined,
      features: () => {
        throw new Error("nothing is evaluated");
      },
      log: () => undefined,
      ended: (error) => {
        if (error !== null) throw error;
      },
    };
  }

  private tell(aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[]): void {
    this.thread.charge(this.world.messageMs);
    this.world.tell(aggregator, message, frames, this.thread.time);
  }

  private run(link: number, device: number, step: number, rank: number, flush: boolean, early: boolean): void {
    const { forwardMs, backwardMs } = this.world.rankTime(device);
    this.computeMs += forwardMs + backwardMs;
    const isAlone = this.devices === 1 && flush && (step !== this.step || this.sums.isEmpty);
    const timings = { forwardMs, backwardMs };
    if (early && isAlone) {
      // The backward pass comes to the last tensors first.
      this.open(step);
      const gradient = this.newGradient();
      this.lent.push(gradient);
      const { length } = this.shards;
      for (let shard = length - 1; shard >= 0; shard--) {
        this.onDevice(device, (shard === length - 1 ? forwardMs : 0) + backwardMs / length, () => {
          this.session.shardReady(link, step, rank, shard, [sliceOf(gradient, gradientSlice(this.shards[shard]))]);
        });
      }
      this.onDevice(device, 0, () => {
        const nodes = [{ node: { level: 0, index: rank }, slices: this.sliced(gradient) }];
        this.session.rankDone(link, step, rank, flush, {
          ...UNMEASURED,
          ...timings,
          nonFinite: null,
          keys: KEY,
          nodes,
        });
      });
      return;
    }
    this.onDevice(device, forwardMs + backwardMs, () => {
      this.open(step);
      this.sums.add({ level: 0, index: rank }, this.newGradient());
      const nodes = flush && this.devices === 1 ? this.takeSums(step) : [];
      this.session.rankDone(link, step, rank, flush, { ...UNMEASURED, ...timings, nonFinite: null, keys: KEY, nodes });
    });
  }

  private open(step: number): void {
    if (step === this.step) return;
    this.step = step;
    this.sums.clear();
    for (const vector of this.lent.splice(0)) this.world.arena.release(vector);
  }

  private newGradient(): Float32Array {
    return this.world.arena.take(this.world.layout.parameterCount).fill(0);
  }

  private sliced(sum: Float32Array): HandedOut["slices"] {
    return this.shards.map((shard) => [sliceOf(sum, gradientSlice(shard))]);
  }

  private takeSums(step: number): readonly HandedOut[] {
    if (step !== this.step) return [];
    const nodes = this.sums.takeAll();
    this.lent.push(...nodes.map(({ sum }) => sum));
    return nodes.map(({ node, sum }) => ({ node, slices: this.sliced(sum) }));
  }
}
