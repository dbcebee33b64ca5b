/** What is simulated: who is where, what travels, and how long everything takes. */
import type { GradientType } from "../../models/exchange.js";
import type { NetworkOptions } from "./network.js";

/** Who sums gradients: a thread of the coordinator's; processes beside workers; those, of machines whose devices give one sum. */
export const ARRANGEMENTS = ["embedded", "sharded", "hierarchical"] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];

/** Bytes a parameter from an aggregator to a worker; θk follows there. As measured, a difference takes 0.63 (docs/exchange.md). */
export const WEIGHT_BYTES = { fp32: 4, bf16: 2, delta: 0.63 } as const;
export type WeightsWire = keyof typeof WEIGHT_BYTES;
export const GRADIENT_BYTES: Readonly<Record<GradientType, number>> = { fp32: 4, bf16: 2 };

/** How long one rank takes on one device. */
export interface RankTime {
  /** in ms */
  readonly forwardMs: number;
  readonly backwardMs: number;
}

/** What things cost on the machines, beside what the network does. */
export interface Costs {
  /** a message on its way between two processes, beside its bytes: threads that wake up, in ms */
  readonly hopMs: number;
  /** processor time of one message where it is sent and where it is heard, in ms */
  readonly messageMs: number;
  /** of a process's network thread, in GB/s */
  readonly ioGbytes: number;
  /** an aggregator that takes in a gradient and adds it, a million values, in ms */
  readonly sumMs: number;
  /** an aggregator that updates a million parameters, in ms */
  readonly updateMs: number;
  /** a worker that takes in the weights of a million parameters, in ms */
  readonly loadMs: number;
}

/** The model, and what of it travels. */
export interface Payload {
  /** lengths of its tensors, at whose borders it is cut */
  readonly tensors: readonly number[];
  readonly gradients: GradientType;
  readonly weights: WeightsWire;
  /** that a rank adds to the queue, and a worker is sent of every rank */
  readonly keyBytesPerRank: number;
}

export interface Scenario {
  readonly arrangement: Arrangement;
  readonly devices: number;
  readonly devicesPerMachine: number;
  /** processes that aggregate where the coordinator does not, at most */
  readonly mostAggregators: number;
  /** W */
  readonly worldSize: number;
  readonly payload: Payload;
  readonly network: NetworkOptions;
  readonly costs: Costs;
  /** times of ranks as they were measured, one of which is drawn for each */
  readonly rankTimes: readonly RankTime[];
  /** share of the devices that take so many times as long */
  readonly stragglers: { readonly share: number; readonly factor: number };
  /** whether gradients leave shard by shard */
  readonly overlaps: boolean;
  /** machines that are missing while the run goes on without them */
  readonly missingMachines: number;
  readonly seed: number;
}

/** Where a step's time went. */
export interface Simulated {
  /** mean of the steps that count, in ms */
  readonly stepMs: number;
  readonly aggregators: number;
  /** of the time, how much what is busiest was busy: what is named first limits the run */
  readonly busy: readonly { readonly what: string; readonly share: number }[];
  /** of a step, in which the devices have nothing to do */
  readonly idleShare: number;
  readonly events: number;
}
