/** What the processes of a benchmark of the exchange say to each other beside the data plane. */

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
  /** hex sha256 of θq and θk, and what has travelled, in bytes of values */
  | { readonly kind: "ended"; readonly digest: string; readonly traffic: Traffic }
  | { readonly kind: "failed"; readonly reason: string };

/** Values that a worker has sent and been sent, in bytes; none through memory. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
  /** whether its last gradient lay in memory that it shares with the aggregator */
  readonly shared: boolean;
}

/** What a worker's process is told on its command line, as JSON. */
export interface WorkerTask {
  readonly runId: string;
  readonly workerId: string;
  readonly ticket: string;
  readonly rank: number;
  readonly endpoint: string;
  readonly parameterCount: number;
  readonly sharesMemory: boolean;
}
