/** Where a run's aggregators come from: a thread of the coordinator, or processes of their own. */
import type { UpdateRule } from "../src/config/optimizer.js";
import type { GradientType, Wire } from "../src/models/exchange.js";
import type { ParameterLayout } from "../src/models/parameters.js";
import { parameterShards, type ParameterShard } from "../src/models/shards.js";
import { layersIn, MOST_ARENA_BYTES, type LayerSlice } from "../src/optim/index.js";
import { UserError } from "../src/protocol/errors.js";
import type { AggregatorAddress } from "../src/protocol/wire.js";
import { addressOf, type Guard } from "../src/transport/index.js";
import { AggregationPlane, AggregatorGone, type RemoteAggregator } from "./aggregation-plane.js";
import { stateOfShard, type AggregatorHandle } from "./aggregators.js";
import type { TrainingState } from "./aggregator.js";
import { demandOf, neededBytes } from "./shared-memory.js";
import { EmbeddedAggregator } from "./embedded-aggregator.js";

/** What aggregators are to begin with. */
export interface Need {
  readonly runId: string;
  readonly layout: ParameterLayout;
  /** one a parameter, in order */
  readonly layers: readonly LayerSlice[];
  readonly rule: UpdateRule;
  readonly worldSize: number;
  readonly gradients: GradientType;
  readonly wire: Wire;
  /** handed over */
  readonly state: TrainingState;
}

/** Aggregators that have begun, one a shard. */
export interface Provided {
  readonly shards: readonly ParameterShard[];
  readonly handles: readonly AggregatorHandle[];
  /** where workers find them */
  readonly addresses: readonly AggregatorAddress[];
}

export interface Supply {
  /** Whether aggregators may have to be waited for. */
  readonly waits: boolean;
  /** @returns null where the user has asked to stop before there were any */
  provide(need: Need): Promise<Provided | null>;
  /** What was provided is given up; more may be asked for. */
  retire(reason: string): Promise<void>;
  /** The run is over: aggregators may go, and so may those that come from now on. */
  farewell(reason: string): void;
  close(): Promise<void>;
}

export interface SupplyOptions {
  /** of the data plane, or of the aggregation plane */
  readonly endpoint: string;
  /** null: whoever reaches the port may speak */
  readonly guard: Guard | null;
  /** CURVE public keys of those who may connect; null: no keys are used */
  readonly allowed: readonly string[] | null;
  readonly heartbeatMs: number;
  readonly deadAfterMs: number;
  readonly signal: AbortSignal;
  /** something for the log */
  readonly explained: (reason: string) => void;
  readonly dropped: (peer: string, reason: string) => void;
}

/** A thread of the coordinator. */
export class EmbeddedSupply implements Supply {
  readonly waits = false;
  private aggregator: EmbeddedAggregator | null = null;

  constructor(private readonly options: SupplyOptions) {}

  /** @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID` */
  async provide({ runId, state, wire, ...options }: Need): Promise<Provided> {
    const { endpoint, guard, deadAfterMs } = this.options;
    const aggregator = await EmbeddedAggregator.start({ options, wire, runId, endpoint, deadAfterMs, guard }, state);
    this.aggregator = aggregator;
    return {
      shards: parameterShards(options.layout, 1),
      handles: [aggregator],
      addresses: [{ port: addressOf(aggregator.endpoint).port }],
    };
  }

  async retire(): Promise<void> {
    await this.aggregator?.close();
    this.aggregator = null;
  }

  farewell(): void {
    // Nobody is waiting for it.
  }

  async close(): Promise<void> {
    await this.retire();
  }
}

/** How long a lost aggregator's place is kept for another, in ms; after that the run goes on with fewer. */
const REPLACEMENT_MS = 10_000;

/** Processes of their own, which connect to the aggregation plane. */
export class RemoteSupply implements Supply {
  readonly waits = true;
  private isFirst = true;
  private provided: readonly RemoteAggregator[] = [];

  private constructor(
    private readonly plane: AggregationPlane,
    private readonly count: number,
    private readonly options: SupplyOptions,
  ) {}

  /**
   * @param count of aggregators that a run begins with
   * @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID`
   */
  static async open(count: number, options: SupplyOptions): Promise<RemoteSupply> {
    return new RemoteSupply(await AggregationPlane.open(options.endpoint, options), count, options);
  }

  /** where the aggregation plane listens, with its port */
  get endpoint(): string {
    return this.plane.endpoint;
  }

  async provide(need: Need): Promise<Provided | null> {
    const { plane, count, options } = this;
    for (;;) {
      const here = await plane.gather(count, {
        least: this.isFirst ? count : checkAggregators(need, count),
        patienceMs: this.isFirst ? null : REPLACEMENT_MS,
        signal: options.signal,
        waiting: (some) => {
          options.explained(`waiting: ${String(some)} of ${String(count)} aggregators are here`);
        },
      });
      if (here.length === 0) return null;
      if (here.length < count)
        options.explained(`going on with ${String(here.length)} of ${String(count)} aggregators: no other has come`);
      this.isFirst = false;
      const { layout, layers, rule, worldSize, gradients, wire, runId, state } = need;
      const { deadAfterMs, heartbeatMs, allowed } = options;
      const shards = parameterShards(layout, here.length);
      try {
        const addresses = await Promise.all(
          here.map(async (aggregator, index) => {
            const shard = shards[index];
            const own = layersIn(layers, shard);
            const task = {
              runId,
              options: { layout: shard.layout, layers: own, rule, worldSize, gradients },
              wire,
              deadAfterMs,
            };
            return aggregator.begin({ ...task, heartbeatMs, allowed }, stateOfShard(state, shard));
          }),
        );
        this.provided = here;
        return { shards, handles: here, addresses };
      } catch (error) {
        if (!(error instanceof AggregatorGone)) throw error;
        options.explained(error.message);
        plane.drop(here, "another aggregator of the run is gone");
      }
    }
  }

  retire(reason: string): Promise<void> {
    this.plane.drop(this.provided, reason);
    this.provided = [];
    return Promise.resolve();
  }

  farewell(reason: string): void {
    this.plane.farewell(reason);
  }

  close(): Promise<void> {
    this.plane.close();
    return Promise.resolve();
  }
}

const GIB = 2 ** 30;
type Model = Pick<Need, "layout" | "layers" | "rule" | "worldSize">;

/** What the aggregator with the largest of so many shards needs of its memory, in bytes. */
function largest(model: Model, shards: number): number {
  const demand = demandOf(model);
  const needed = parameterShards(model.layout, shards).map((shard) => neededBytes(shard.layout, demand));
  return Math.max(...needed);
}

/** Least number of aggregators whose memory holds the model; null: none does. */
function leastAggregators(model: Model): number | null {
  for (let count = 1; count <= model.layout.parameters.length; count++)
    if (largest(model, count) <= MOST_ARENA_BYTES) return count;
  return null;
}

/**
 * @param count of aggregators that a run is to have
 * @returns least number with which it can go on
 * @throws UserError `TOO_MANY_AGGREGATORS` where the model has fewer tensors, `MODEL_TOO_LARGE` where their memory does not hold it
 */
export function checkAggregators(model: Model, count: number): number {
  const { parameters, parameterCount } = model.layout;
  if (count > parameters.length) {
    throw new UserError(
      "TOO_MANY_AGGREGATORS",
      `--aggregators ${String(count)}: the parameters are cut at tensor borders, and this encoder has ${String(parameters.length)} tensors: ask for fewer`,
    );
  }
  const least = leastAggregators(model);
  if (least !== null && least <= count) return least;
  const remedy = least === null ? "its largest tensor is too large" : `use --aggregators ${String(least)} or more`;
  throw new UserError(
    "MODEL_TOO_LARGE",
    `${String(parameterCount)} parameters need ${(largest(model, count) / GIB).toFixed(2)} GiB of an aggregator's memory, which ends at ` +
      `${(MOST_ARENA_BYTES / GIB).toFixed(0)} GiB: ${remedy}`,
  );
}
