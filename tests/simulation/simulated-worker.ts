/** A worker's process in virtual time: the program's session and weights, arithmetic of the simulation's, a thread that computes. */
import type { DataPlane } from "../../coordinator/data-plane.js";
import type { Server } from "../../coordinator/server.js";
import { KeyQueue } from "../../src/objectives/key-queue.js";
import { SumTree } from "../../src/optim/index.js";
import { fromFrames } from "../../src/protocol/frames.js";
import { WorkerSession } from "../../worker/session.js";
import { gradientSlice, roundedLength } from "../../src/models/exchange.js";
import { sliceOf, type ParameterShard } from "../../src/models/shards.js";
import type { HandedOut, SessionOptions } from "../../worker/session-ports.js";
import { ShardedWeights } from "../../worker/sharded-weights.js";
import type { Agenda } from "../../src/cli/simulate/agenda.js";
import {
  arena,
  bucketsOf,
  featureValues,
  fingerprintOf,
  LAYOUT,
  QUEUE_SIZE,
  rankValues,
  joined,
  shownValue,
  type Weights,
  whole,
  type Numbers,
} from "./arithmetic.js";
import type { Channel, Network } from "./network.js";
import type { Random } from "../../src/cli/simulate/random.js";

/** What a worker sees of the world. */
export interface Surroundings {
  readonly agenda: Agenda;
  readonly draw: Random;
  readonly network: Network;
  readonly seed: number;
  /** chance of a worker to be several times slower than others */
  readonly slow: number;
  readonly rounds: readonly number[];
  readonly numbers: Numbers;
  readonly config: { readonly parallel: { readonly worldSize: number } };
  connected(channel: Channel): void;
  closed(channel: Channel): void;
  sendUp(
    channel: Channel,
    arrive: (life: { readonly server: Server; readonly planes: readonly DataPlane[] }) => void,
  ): void;
}

/** What an engine has; it takes its calls one after another. */
interface Engine {
  shards: readonly Weights[] | null;
  queue: KeyQueue | null;
  /** what ranks have shown in the rounds of a step */
  shown: { readonly step: number; readonly blocks: readonly Float32Array[] };
  freeAt: number;
}

type RankValues = ReturnType<typeof rankValues>;

const TICK_MS = 90;
/** Numbers besides the measured ones, which the simulation has no use for. */
const UNMEASURED = {
  accuracy: 0,
  positiveSimilarity: 0,
  negativeSimilarity: 0,
  loadMs: 0,
  forwardMs: 0,
  backwardMs: 0,
  graphMs: 0,
};

export class SimulatedWorker {
  readonly session: WorkerSession;
  private isAlive = true;
  private frozenUntil = 0;
  private control: Channel | null = null;
  private data: readonly Channel[] = [];
  private shards: readonly ParameterShard[] = [];
  private readonly weights: ShardedWeights;
  private readonly sums: SumTree;
  private summed = { link: -1, step: -1 };
  private handedOut: Float32Array[] = [];
  private readonly engines: readonly Engine[];
  /** time of a rank, in ms */
  private readonly paceMs: number;

  constructor(
    readonly number: number,
    private readonly world: Surroundings,
    hello: Omit<SessionOptions["hello"], "instance">,
    private readonly ended: () => void,
  ) {
    const { draw, config } = world;
    const devices = draw.pick([1, 1, 1, 2, 3]);
    this.engines = Array.from({ length: devices }, () => newEngine());
    this.paceMs = 10 + draw.below(draw.chance(world.slow) ? 200 : 30);
    this.weights = new ShardedWeights(LAYOUT, world.numbers.precision === "bf16", arena, bucketsOf);
    this.sums = new SumTree(config.parallel.worldSize, arena, roundedLength(LAYOUT, world.numbers.gradients));
    const instance = number.toString(16).padStart(32, "0");
    const options = { endpoint: "tcp://coordinator:1", hello: { ...hello, instance }, patienceMs: Infinity };
    this.session = new WorkerSession(options, this.ports());
  }

  start(): void {
    this.session.start();
    this.tick();
  }

  kill(): void {
    this.isAlive = false;
  }

  freeze(forMs: number): void {
    this.frozenUntil = Math.max(this.frozenUntil, this.world.agenda.now + forMs);
  }

  private tick(): void {
    this.world.agenda.later(TICK_MS, () => {
      if (!this.isAlive) return;
      this.whenAwake(() => {
        this.session.tick();
      });
      this.tick();
    });
  }

  private whenAwake(act: () => void): void {
    if (!this.isAlive) return;
    const { agenda } = this.world;
    if (this.frozenUntil <= agenda.now) act();
    else {
      agenda.at(this.frozenUntil, () => {
        this.whenAwake(act);
      });
    }
  }

  /** Work for a device's engine, behind whatever it has been given. */
  private onEngine(device: number, ms: number, work: (engine: Engine) => void): void {
    const { agenda } = this.world;
    const engine = this.engines[device];
    engine.freeAt = Math.max(agenda.now, engine.freeAt, this.frozenUntil) + ms;
    agenda.at(engine.freeAt, () => {
      this.whenAwake(() => {
        work(engine);
      });
    });
  }

  /** @param done once all have done it */
  private onAll(ms: number, work: (engine: Engine) => void, done: () => void = () => undefined): void {
    let left = this.engines.length;
    for (const device of this.engines.keys())
      this.onEngine(device, ms, (engine) => {
        work(engine);
        if (--left === 0) done();
      });
  }

  /** @param aggregator null: to the coordinator */
  private openChannel(link: number, aggregator: number | null): Channel {
    const kind = aggregator === null ? "control" : "data";
    const channel: Channel = {
      address: `${String(this.number)}/${String(link)}/${kind}${String(aggregator ?? "")}`,
      worker: this.number,
      kind,
      life: null,
      isClosed: false,
      last: { up: 0, down: 0 },
      deliver: (message, frames) => {
        this.whenAwake(() => {
          if (aggregator === null) this.session.heard(link, message, frames);
          else this.session.heardData(link, aggregator, message, frames);
        });
      },
      broken: () => {
        this.whenAwake(() => {
          this.session.linkLost(link, "broken");
        });
      },
    };
    this.world.connected(channel);
    return channel;
  }

  private ports(): ConstructorParameters<typeof WorkerSession>[1] {
    const { world } = this;
    const { agenda, draw } = world;
    return {
      now: () => agenda.now,
      random: () => draw.next(),
      connect: (link) => {
        this.control = this.openChannel(link, null);
      },
      disconnect: () => {
        this.disconnect();
      },
      say: (message, frames) => {
        const channel = this.control;
        if (channel === null) return;
        world.sendUp(channel, ({ server }) => {
          server.received(channel.address, message, frames);
        });
      },
      openData: (link, aggregators, open) => {
        this.shards = this.weights.cut(aggregators.length);
        this.data = aggregators.map((_, index) => this.openChannel(link, index));
        this.weights.restart([]);
        for (const index of this.data.keys()) this.tellData(index, open, []);
      },
      tell: (aggregator, message, frames) => {
        this.tellData(aggregator, message, frames);
      },
      samplesAt: () => undefined,
      prepare: () => {
        agenda.later(20 + draw.below(100), () => {
          this.whenAwake(() => {
            this.session.prepared({
              manifestHash: "manifest",
              splitLengths: { train: 4, test: 2 },
              engineFingerprint: "engine",
              tensors: LAYOUT.parameters.length,
              device: "cpu",
              devices: this.engines.length,
              takesBfloat16: world.numbers.precision === "bf16",
              rounds: world.rounds,
            });
          });
        });
      },
      prove: (link, queueVersion) => {
        this.onEngine(0, 0.1, ({ queue }) => {
          const weights = this.weights.whole();
          if (weights === null || queue === null) this.session.proved(link, null);
          else {
            const weightsSha256 = weights.shards.map(({ query, key, buffers }) =>
              String(fingerprintOf(query, key, buffers)),
            );
            const queueSha256 = String(fingerprintOf(queue.keys));
            this.session.proved(link, { weightsVersion: weights.version, weightsSha256, queueVersion, queueSha256 });
          }
        });
      },
      takeMemory: () => undefined,
      takeWeights: (aggregator, header, frames) => this.weights.take(aggregator, header, frames),
      loadWeights: (link) => {
        const weights = this.weights.whole();
        if (weights === null) throw new Error("weights were to be loaded before all shards were there");
        this.onAll(
          0.1,
          (engine) => {
            engine.shards = weights.shards;
          },
          () => {
            this.session.weightsLoaded(link);
          },
        );
      },
      setQueue: (position, frames) => {
        const keys = new Float32Array(QUEUE_SIZE);
        fromFrames(frames, keys);
        this.onAll(0, (engine) => {
          engine.queue = KeyQueue.restore(keys, QUEUE_SIZE, 1, position);
        });
      },
      appendKeys: (frames) => {
        const block = new Float32Array(world.config.parallel.worldSize);
        fromFrames(frames, block);
        this.onAll(0, ({ queue }) => {
          queue?.append(block);
        });
      },
      embed: (link, device, step, rank, round) => {
        this.onEngine(device, (this.paceMs / 2) * (0.5 + draw.next()), (engine) => {
          const { shards, queue } = engine;
          if (shards === null || queue === null) throw new Error("embeddings without weights or queue");
          const { seed, numbers } = world;
          const given = { seed, numbers, step, rank, weights: whole(shards), queue: queue.keys };
          const value = shownValue({ ...given, shown: shownIn(engine, step, round) });
          this.session.embeddingsDone(link, step, rank, round, Float32Array.of(value));
        });
      },
      setEmbeddings: (step, round, frames) => {
        const block = new Float32Array(world.config.parallel.worldSize);
        fromFrames(frames, block);
        this.onAll(0, (engine) => {
          const { shown } = engine;
          const before = shown.step === step ? shown.blocks.slice(0, round) : [];
          engine.shown = { step, blocks: [...before, block] };
        });
      },
      run: (link, device, step, rank, flush, early) => {
        const ms = this.paceMs * (0.5 + draw.next());
        if (!early) {
          this.onEngine(device, ms, (engine) => {
            this.rank(link, step, rank, flush, this.valuesOf(engine, step, rank));
          });
          return;
        }
        // Shards are whole one after the other, the last first, while the engine is at the rank; it may end before some are heard of.
        let values: RankValues | null = null;
        for (const shard of [...this.shards.keys()].reverse()) {
          this.onEngine(device, ms / (this.shards.length + 1), (engine) => {
            values ??= this.valuesOf(engine, step, rank);
            if (draw.chance(0.8)) this.shardWhole(link, step, rank, shard, values);
          });
        }
        this.onEngine(device, ms / (this.shards.length + 1), (engine) => {
          this.rank(link, step, rank, flush, values ?? this.valuesOf(engine, step, rank));
        });
      },
      flush: (link, step) => {
        this.onEngine(0, 0.1, () => {
          this.session.flushed(link, step, this.takeSums());
        });
      },
      prefetch: () => undefined,
      features: (link, device, request) => {
        this.onEngine(device, this.paceMs, ({ shards }) => {
          if (shards === null) throw new Error("features without weights");
          const { step, chunk } = request;
          this.session.featuresDone(link, request, featureValues(step ?? 0, chunk ?? 0, whole(shards), world.numbers));
        });
      },
      log: () => undefined,
      ended: (error) => {
        if (error !== null) throw error;
        this.kill();
        this.disconnect();
        this.ended();
      },
    };
  }

  private tellData(
    aggregator: number,
    message: Parameters<DataPlane["received"]>[1],
    frames: readonly Uint8Array[],
  ): void {
    const channel = this.data[aggregator];
    if (channel === undefined) return;
    this.world.sendUp(channel, ({ planes }) => {
      // Nobody is there where the coordinator has gone on with fewer.
      planes[aggregator]?.received(channel.address, message, frames);
    });
  }

  /** What was on its way still arrives; nobody hears the answer. */
  private disconnect(): void {
    for (const channel of [this.control, ...this.data]) if (channel !== null) this.world.closed(channel);
    this.control = null;
    this.data = [];
  }

  /** A shard of a gradient leaves before the rest of it, where nothing is to be added to it, nor rounded. */
  private shardWhole(link: number, step: number, rank: number, shard: number, { gradient }: RankValues): void {
    const isAlone =
      this.engines.length === 1 && (this.summed.step !== step || this.summed.link !== link || this.sums.isEmpty);
    if (!isAlone || this.world.numbers.gradients === "bf16" || shard >= this.shards.length) return;
    this.session.shardReady(link, step, rank, shard, [sliceOf(gradient, gradientSlice(this.shards[shard]))]);
  }

  private valuesOf(engine: Engine, step: number, rank: number): RankValues {
    const { shards, queue } = engine;
    const shown = shownIn(engine, step, this.world.rounds.length);
    if (shards === null || queue === null) throw new Error("a rank without weights or queue");
    const { seed, numbers } = this.world;
    return rankValues({ seed, numbers, step, rank, weights: whole(shards), queue: queue.keys, shown });
  }

  private rank(link: number, step: number, rank: number, flush: boolean, values: RankValues): void {
    const isOver = link < this.summed.link || (link === this.summed.link && step < this.summed.step);
    if (!isOver && (link !== this.summed.link || step !== this.summed.step)) {
      this.summed = { link, step };
      this.sums.clear();
      for (const sum of this.handedOut.splice(0)) arena.release(sum);
    }
    const { gradient, keys, nonFinite } = values;
    // Of several devices the session flushes the sums itself.
    if (isOver) arena.release(gradient);
    else this.sums.add({ level: 0, index: rank }, gradient);
    const nodes = flush && !isOver && this.engines.length === 1 ? this.takeSums() : [];
    this.session.rankDone(link, step, rank, flush, { ...UNMEASURED, loss: 1, nonFinite, keys, nodes });
  }

  private travelling(sum: Float32Array, shard: ParameterShard): readonly Float32Array[] {
    const slice = sliceOf(sum, gradientSlice(shard));
    const rounded = roundedLength(shard.layout, this.world.numbers.gradients);
    if (rounded === 0) return [slice];
    const codes = arena.packed(slice.subarray(0, rounded));
    this.handedOut.push(codes);
    return [codes, slice.subarray(rounded)];
  }

  private takeSums(): readonly HandedOut[] {
    const nodes = this.sums.takeAll();
    this.handedOut.push(...nodes.map(({ sum }) => sum));
    return nodes.map(({ node, sum }) => ({
      node,
      slices: this.shards.map((shard) => this.travelling(sum, shard)),
    }));
  }
}

function newEngine(): Engine {
  return { shards: null, queue: null, shown: { step: -1, blocks: [] }, freeAt: 0 };
}

/** What the ranks have shown in the rounds of a step before this one. */
function shownIn({ shown }: Engine, step: number, round: number): Float32Array {
  if (round === 0) return joined([]);
  if (shown.step !== step || shown.blocks.length !== round) throw new Error("a round was begun before those before it");
  return joined(shown.blocks);
}
