/** What the processes of a benchmark of the exchange say to each other beside the data plane. */
import type { GradientType } from "../../models/exchange.js";

/** To a worker. */
export type ToWorker =
  /** its rank's gradient for this step is there, and may leave */
  | { readonly kind: "send"; readonly step: number }
  /** the last exchange is over; answered by `ended` */
  | { readonly kind: "end" };

/** From a worker. */
export type FromWorker =
  /** it has opened its data connection */
  | { readonly kind: "ready" }
  /** it has θq and θk of the next version */
  | { readonly kind: "arrived" }
  /** hex sha256 of each shard's θq and θk, and what has travelled to and from each aggregator */
  | { readonly kind: "ended"; readonly digests: readonly string[]; readonly traffic: readonly Traffic[] }
  | { readonly kind: "failed"; readonly reason: string };

/** What a worker has sent to an aggregator and been sent by it in the exchanges that count, in bytes; none through memory. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
  /** whether its last gradient lay in memory that the two share */
  readonly shared: boolean;
}

/** What a worker's process is told on its command line, as JSON. */
export interface WorkerTask {
  readonly runId: string;
  readonly workerId: string;
  readonly ticket: string;
  readonly rank: number;
  readonly workers: number;
  /** exchanges before those that count */
  readonly warmup: number;
  /** of the aggregators, in the order of their shards */
  readonly endpoints: readonly string[];
  readonly parameterCount: number;
  readonly gradients: GradientType;
  readonly precision: "fp32" | "bf16";
  readonly sharesMemory: boolean;
}
