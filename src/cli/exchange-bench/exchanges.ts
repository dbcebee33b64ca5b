/**
 * Exchanges between an aggregator and worker processes, as a step has one: a gradient from every worker in, summed by the tree,
 * optimizer and momentum update applied, the new θq and θk at every worker. Between two of them nothing happens.
 */
import { fork, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import type { TrainingState } from "../../../coordinator/aggregator.js";
import { Aggregators, type AggregationOptions } from "../../../coordinator/aggregators.js";
import { EmbeddedAggregator } from "../../../coordinator/embedded-aggregator.js";
import { initialParameters } from "../../models/parameters.js";
import { parameterShards } from "../../models/shards.js";
import { layerSlices } from "../../models/treatment.js";
import { sha256OfFloats } from "../../protocol/digest.js";
import { UserError } from "../../protocol/errors.js";
import { workerId } from "../../protocol/identifiers.js";
import { endWithin } from "../train/children.js";
import type { FromWorker, ToWorker, Traffic, WorkerTask } from "./messages.js";
import { benchmarkLayout } from "./model.js";

const RUN_ID = "bench-exchange";
const PROGRAM = new URL("./worker.js", import.meta.url);
/** Nobody is given up for silence: an exchange of a large model takes long on a busy machine. In ms. */
const DEAD_AFTER_MS = 3_600_000;
/** How long a worker may take to end, in ms. */
const GRACE_MS = 10_000;
/** MoCo's (He et al. 2020) */
const RATES = { learningRate: 0.03, keyMomentum: 0.999 };
const EVERYTHING_DECAYS = { decayNormAndBias: true, exclude: [] };
const RULE = { kind: "sgd", weightDecay: 1e-4, momentum: 0.9 } as const;

export interface ExchangeOptions {
  readonly workers: number;
  readonly parameterCount: number;
  /** exchanges that count, and those before them */
  readonly rounds: number;
  readonly warmup: number;
  /** whether workers offer the aggregator memory of this machine; otherwise all goes over loopback TCP */
  readonly sharesMemory: boolean;
}

export interface ExchangeTimes {
  /** of the exchanges that count, in ms */
  readonly ms: readonly number[];
  /** of one worker and exchange, on average */
  readonly traffic: Traffic;
  /** resident memory of the aggregator's process, in bytes */
  readonly rss: number;
}

/** A worker's process. What it says waits until it is asked for. */
class Remote {
  private readonly heard: FromWorker[] = [];
  private wake: () => void = () => undefined;

  constructor(
    private readonly child: ChildProcess,
    failed: (reason: string) => void,
  ) {
    child.on("message", (message: FromWorker) => {
      if (message.kind === "failed") failed(message.reason);
      this.heard.push(message);
      this.wake();
    });
    child.on("exit", (code, signal) => {
      failed(`its process ended with ${String(code ?? signal)}`);
    });
  }

  say(message: ToWorker): void {
    this.child.send(message, () => undefined);
  }

  /** What it says next, which is due to be of this kind. */
  async next<Kind extends FromWorker["kind"]>(kind: Kind): Promise<Extract<FromWorker, { kind: Kind }>> {
    while (this.heard.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    const message = this.heard.shift();
    if (message?.kind !== kind) throw new Error(`a worker said ${String(message?.kind)} where ${kind} was due`);
    return message as Extract<FromWorker, { kind: Kind }>;
  }

  async end(): Promise<void> {
    if (this.child.connected) this.child.disconnect();
    await endWithin(this.child, GRACE_MS);
  }
}

/**
 * @throws UserError `BENCH_WORKER_FAILED`
 * @throws Error where a worker ends with other weights than the aggregator has
 */
export async function timeExchanges(options: ExchangeOptions): Promise<ExchangeTimes> {
  const { workers, parameterCount, sharesMemory } = options;
  const aggregator = await startAggregator(workers, parameterCount);
  const remotes: Remote[] = [];
  try {
    return await new Promise<ExchangeTimes>((resolve, reject) => {
      let summed: () => void = () => undefined;
      const captures: ((state: TrainingState) => void)[] = [];
      const aggregators = new Aggregators(aggregationOf(parameterCount), [aggregator], {
        reported: (report) => {
          if (report.kind === "held" && report.ranks.length === workers) summed();
          else if (report.kind === "captured") captures.shift()?.(report.state);
          else if (report.kind === "lost") reject(failure(report.worker, report.reason));
          else if (report.kind === "dropped") reject(new Error(report.reason));
        },
        failed: reject,
        gone: (reason) => {
          reject(new Error(reason));
        },
        leaving: (reason) => {
          reject(new Error(reason));
        },
      });
      const capture = async () =>
        new Promise<TrainingState>((done) => {
          captures.push(done);
          aggregators.command({ kind: "capture" });
        });
      for (let rank = 0; rank < workers; rank++) {
        const [worker, ticket] = [workerId(`worker-${String(rank + 1)}`), randomBytes(16).toString("hex")];
        aggregators.command({ kind: "expect", worker, ticket });
        aggregators.command({ kind: "admit", worker, holding: null });
        const place = { runId: RUN_ID, workerId: worker, ticket, rank, endpoint: aggregator.endpoint };
        const task: WorkerTask = { ...place, parameterCount, sharesMemory };
        const child = fork(PROGRAM, [JSON.stringify(task)]);
        remotes.push(
          new Remote(child, (reason) => {
            reject(failure(worker, reason));
          }),
        );
      }
      const sum = async () => new Promise<void>((done) => (summed = done));
      exchange(options, aggregators, remotes, { sum, capture }).then(resolve, reject);
    });
  } finally {
    await Promise.all(remotes.map(async (remote) => remote.end()));
    await aggregator.close();
  }
}

async function exchange(
  { rounds, warmup }: ExchangeOptions,
  aggregators: Aggregators,
  remotes: readonly Remote[],
  asked: {
    /** resolves when all gradients of a step are summed */
    readonly sum: () => Promise<void>;
    readonly capture: () => Promise<TrainingState>;
  },
): Promise<ExchangeTimes> {
  const each = async <Kind extends FromWorker["kind"]>(kind: Kind) =>
    Promise.all(remotes.map(async (remote) => remote.next(kind)));
  await each("ready");
  await each("arrived");

  const ms: number[] = [];
  for (let step = 0; step < warmup + rounds; step++) {
    const summed = asked.sum();
    const start = performance.now();
    for (const remote of remotes) remote.say({ kind: "send", step });
    await summed;
    aggregators.command({ kind: "apply", step, rates: RATES });
    await each("arrived");
    ms.push(performance.now() - start);
  }

  const { rss } = process.memoryUsage();
  const { version, query, key } = await asked.capture();
  const digest = sha256OfFloats(query, key);
  aggregators.command({ kind: "release", version });
  for (const remote of remotes) remote.say({ kind: "end" });
  const ends = await each("ended");
  if (ends.some((end) => end.digest !== digest)) throw new Error("a worker has other weights than the aggregator");
  const mean = (of: (traffic: Traffic) => number) =>
    ends.reduce((sum, { traffic }) => sum + of(traffic), 0) / (ends.length * (warmup + rounds));
  return {
    ms: ms.slice(warmup),
    traffic: {
      sent: mean(({ sent }) => sent),
      received: mean(({ received }) => received),
      shared: ends.every(({ traffic }) => traffic.shared),
    },
    rss,
  };
}

function failure(worker: string, reason: string): UserError {
  return new UserError("BENCH_WORKER_FAILED", `${worker} of the benchmark has failed: ${reason}`);
}

function aggregationOf(parameterCount: number): AggregationOptions {
  const layout = benchmarkLayout(parameterCount);
  return { layout, shards: parameterShards(layout, 1), rule: RULE, clipNorm: null };
}

async function startAggregator(worldSize: number, parameterCount: number): Promise<EmbeddedAggregator> {
  const layout = benchmarkLayout(parameterCount);
  const query = initialParameters(layout, 0);
  const none = new Float32Array(0);
  const options = { layout, worldSize, rule: RULE, layers: layerSlices(layout, EVERYTHING_DECAYS) };
  return EmbeddedAggregator.start(
    { options, runId: RUN_ID, endpoint: "tcp://127.0.0.1:*", deadAfterMs: DEAD_AFTER_MS, guard: null },
    {
      ...{ version: 0, updates: 0, query, key: query, queryBuffers: none, keyBuffers: none },
      optimizer: [new Float32Array(parameterCount)],
    },
  );
}
