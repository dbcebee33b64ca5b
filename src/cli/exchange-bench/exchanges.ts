/**
 * Exchanges between an aggregator and worker processes, as a step has one: a gradient from every worker in, summed by the tree,
 * optimizer and momentum update applied, the new θq and θk at every worker. Between two of them nothing happens.
 */
import { fork, spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { TrainingState } from "../../../coordinator/aggregator.js";
import {
  checkAggregators,
  EmbeddedSupply,
  RemoteSupply,
  type Provided,
  type Supply,
} from "../../../coordinator/aggregator-supply.js";
import { Aggregators } from "../../../coordinator/aggregators.js";
import type { GradientType, Wire } from "../../models/exchange.js";
import { roundedWeights, roundings } from "../../models/packed-weights.js";
import type { ParameterSpec } from "../../models/parameters.js";
import { sliceOf } from "../../models/shards.js";
import { layerSlices } from "../../models/treatment.js";
import { VectorArena } from "../../optim/index.js";
import { sha256OfFloats } from "../../protocol/digest.js";
import { UserError } from "../../protocol/errors.js";
import { workerId } from "../../protocol/identifiers.js";
import { addressOf } from "../../transport/index.js";
import { endWithin, startMember } from "../train/children.js";
import type { FromWorker, ToWorker, Traffic, WorkerTask } from "./messages.js";
import { syntheticLayout } from "../../models/synthetic-layout.js";
import { RECORDED, Recording } from "./recording.js";

const RUN_ID = "bench-exchange";
const PROGRAM = new URL("./worker.js", import.meta.url);
const HEARTBEAT_MS = 1000;
/** Nobody is given up for silence: an exchange of a large model takes long on a busy machine. In ms. */
const DEAD_AFTER_MS = 3_600_000;
/** How long a worker may take to end, in ms. */
const GRACE_MS = 10_000;
const EVERYTHING_DECAYS = { decayNormAndBias: true, exclude: [] };
const { rates: RATES, rule: RULE } = RECORDED;

export interface ExchangeOptions {
  readonly workers: number;
  readonly parameterCount: number;
  readonly gradients: GradientType;
  /** processes that aggregate; null: a thread of this one does */
  readonly aggregators: number | null;
  /** exchanges that count, and those before them */
  readonly rounds: number;
  readonly warmup: number;
  /** of a step, were there one */
  readonly precision: "fp32" | "bf16";
  /** without memory to share all goes over TCP */
  readonly wire: Wire;
  /** address of this machine, or of this network namespace, at which others reach it */
  readonly host: string;
  /** network namespaces, as `ip netns` has them: worker, and aggregator, N is in the Nth, round about; none: all are here */
  readonly namespaces: readonly string[];
}

export interface ExchangeTimes {
  /** of the exchanges that count, in ms */
  readonly ms: readonly number[];
  /** of one worker and exchange, on average, with all aggregators */
  readonly traffic: Traffic;
  /**
   * In and out of the machine that moves the most in one exchange, in bytes, were each worker on a machine of its own: with as
   * many aggregators one beside each, otherwise each aggregator on another machine.
   */
  readonly busiestBytes: number;
  /** resident memory of this process, the coordinator's, in bytes */
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
 * @throws Error where a worker ends with other weights than the aggregators have
 */
export async function timeExchanges(options: ExchangeOptions): Promise<ExchangeTimes> {
  const { workers, parameterCount, gradients, precision, wire } = options;
  const layout = syntheticLayout(parameterCount);
  const remotes: Remote[] = [];
  const { supply, provided, end } = await startAggregators(options);
  try {
    return await new Promise<ExchangeTimes>((resolve, reject) => {
      let summed: () => void = () => undefined;
      const captures: ((state: TrainingState) => void)[] = [];
      const fail = (reason: string) => {
        reject(new Error(reason));
      };
      const { shards, handles, addresses } = provided;
      const aggregators = new Aggregators({ layout, shards, rule: RULE, clipNorm: null }, handles, {
        reported: (report) => {
          if (report.kind === "held" && report.ranks.length === workers) summed();
          else if (report.kind === "captured") captures.shift()?.(report.state);
          else if (report.kind === "lost") reject(failure(report.worker, report.reason));
          else if (report.kind === "dropped") fail(report.reason);
        },
        failed: reject,
        gone: fail,
        leaving: fail,
      });
      const endpoints = addresses.map(({ host, port }) => `tcp://${host ? host : options.host}:${String(port)}`);
      for (let rank = 0; rank < workers; rank++) {
        const [worker, ticket] = [workerId(`worker-${String(rank + 1)}`), randomBytes(16).toString("hex")];
        aggregators.command({ kind: "expect", worker, ticket });
        aggregators.command({ kind: "admit", worker, holding: null });
        const place = { runId: RUN_ID, workerId: worker, ticket, rank, workers, warmup: options.warmup, endpoints };
        const task: WorkerTask = { ...place, parameterCount, gradients, precision, sharesMemory: wire.sharesMemory };
        const child = startWorkerIn(namespaceOf(options, rank), JSON.stringify(task));
        remotes.push(
          new Remote(child, (reason) => {
            reject(failure(worker, reason));
          }),
        );
      }
      const sum = async () => new Promise<void>((done) => (summed = done));
      const capture = async () =>
        new Promise<TrainingState>((done) => {
          captures.push(done);
          aggregators.command({ kind: "capture" });
        });
      exchange(options, aggregators, remotes, { sum, capture, provided }).then(resolve, reject);
    });
  } finally {
    await Promise.all(remotes.map(async (remote) => remote.end()));
    supply.farewell("the benchmark is over");
    await supply.close();
    await end();
  }
}

async function exchange(
  { rounds, warmup, parameterCount, precision, wire }: ExchangeOptions,
  aggregators: Aggregators,
  remotes: readonly Remote[],
  asked: {
    /** resolves when all gradients of a step are summed */
    readonly sum: () => Promise<void>;
    readonly capture: () => Promise<TrainingState>;
    readonly provided: Provided;
  },
): Promise<ExchangeTimes> {
  const each = async <Kind extends FromWorker["kind"]>(kind: Kind) =>
    Promise.all(remotes.map(async (remote) => remote.next(kind)));
  await each("arrived");
  await each("ready");

  const ms: number[] = [];
  for (let step = 0; step < warmup + rounds; step++) {
    const summed = asked.sum();
    const start = performance.now();
    for (const remote of remotes) remote.say({ kind: "send", step });
    await summed;
    aggregators.command({ kind: "apply", step, rates: RATES });
    await each("arrived");
    ms.push(performance.now() - start);
    await each("ready");
  }

  const { rss } = process.memoryUsage();
  for (const remote of remotes) remote.say({ kind: "end" });
  const ends = await each("ended");
  const { version, query, key } = await asked.capture();
  const traffic = ends.map((end) => end.traffic);
  const shared = traffic.flat().every((one) => one.shared);
  const isRounded = precision === "bf16" && wire.weights !== "fp32" && !shared;
  const { parameters } = syntheticLayout(parameterCount);
  const [theirQuery, theirKey] = [query, key].map((values) => (isRounded ? roundedAs(parameters, values) : values));
  const digests = asked.provided.shards.map((shard) =>
    sha256OfFloats(sliceOf(theirQuery, shard), sliceOf(theirKey, shard)),
  );
  aggregators.command({ kind: "release", version });
  if (ends.some((end) => end.digests.join() !== digests.join()))
    throw new Error("a worker has other weights than the aggregators");
  const mean = (of: (one: Traffic) => number) =>
    traffic.flat().reduce((sum, one) => sum + of(one), 0) / (ends.length * rounds);
  return {
    ms: ms.slice(warmup),
    traffic: {
      sent: mean(({ sent }) => sent),
      received: mean(({ received }) => received),
      shared,
    },
    busiestBytes: busiest(traffic) / rounds,
    rss,
  };
}

/** θ as those have it who were sent what they round. */
function roundedAs(parameters: readonly ParameterSpec[], values: Float32Array): Float32Array {
  return roundedWeights(new VectorArena(), values, roundings(parameters));
}

/** @param traffic of each worker with each aggregator @returns bytes of the machine that moves the most */
function busiest(traffic: readonly (readonly Traffic[])[]): number {
  const [workers, aggregators] = [traffic.length, traffic[0].length];
  const isBeside = aggregators === workers && workers > 1;
  // Between a worker and the aggregator beside it nothing leaves the machine.
  const bytes = traffic.map((row, worker) =>
    row.map(({ sent, received }, aggregator) => (isBeside && worker === aggregator ? 0 : sent + received)),
  );
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const ofWorkers = bytes.map(sum);
  const ofAggregators = Array.from({ length: aggregators }, (_, index) => sum(bytes.map((row) => row[index])));
  const machines = isBeside
    ? ofWorkers.map((own, index) => own + ofAggregators[index])
    : [...ofWorkers, ...ofAggregators];
  return Math.max(...machines);
}

function failure(worker: string, reason: string): UserError {
  return new UserError("BENCH_WORKER_FAILED", `${worker} of the benchmark has failed: ${reason}`);
}

/** Where the Nth worker, and the Nth aggregator, is; null: here. */
function namespaceOf({ namespaces }: Pick<ExchangeOptions, "namespaces">, number: number): string | null {
  return namespaces.length === 0 ? null : namespaces[number % namespaces.length];
}

function startWorkerIn(namespace: string | null, task: string): ChildProcess {
  if (namespace === null) return fork(PROGRAM, [task]);
  const program = [process.execPath, fileURLToPath(PROGRAM), task];
  return spawn("ip", ["netns", "exec", namespace, ...program], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
}

interface Started {
  readonly supply: Supply;
  readonly provided: Provided;
  /** waits for the ends of what was started */
  readonly end: () => Promise<void>;
}

async function startAggregators(given: ExchangeOptions): Promise<Started> {
  const { workers, parameterCount, gradients, precision, wire, aggregators, host } = given;
  const layout = syntheticLayout(parameterCount);
  const layers = layerSlices(layout, EVERYTHING_DECAYS, precision);
  checkAggregators({ layout, layers, rule: RULE, worldSize: workers }, aggregators ?? 1);
  const { query, key, velocity } = new Recording(layout, 0).state();
  const none = new Float32Array(0);
  const need = {
    ...{ runId: RUN_ID, layout, layers, rule: RULE, worldSize: workers },
    ...{ gradients, wire },
    state: {
      ...{ version: 0, updates: 0, query, key, queryBuffers: none, keyBuffers: none },
      optimizer: [velocity],
    },
  };
  const options = {
    ...{ endpoint: `tcp://${host}:*`, guard: null, allowed: null, signal: new AbortController().signal },
    ...{ heartbeatMs: HEARTBEAT_MS, deadAfterMs: DEAD_AFTER_MS, explained: () => undefined, dropped: () => undefined },
  };
  if (aggregators === null) {
    const supply = new EmbeddedSupply(options);
    return { supply, provided: await supply.provide(need), end: () => Promise.resolve() };
  }
  const supply = await RemoteSupply.open(aggregators, options);
  const control = `tcp://${host}:${String(addressOf(supply.endpoint).port - 1)}`;
  // Nobody else reaches a benchmark's namespaces, or loopback.
  const flags = ["--connect", control, "--insecure"];
  const children = Array.from({ length: aggregators }, (_, index) =>
    startMember("aggregator", flags, () => undefined, namespaceOf(given, index)),
  );
  const end = async () => {
    await Promise.all(children.map(async (child) => endWithin(child, GRACE_MS)));
  };
  const provided = await supply.provide(need);
  if (provided === null) throw new Error("nobody has asked to stop");
  return { supply, provided, end };
}
