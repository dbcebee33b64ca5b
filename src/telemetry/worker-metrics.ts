/** What a worker measures of itself. */
import type { Counter, Gauge } from "prom-client";
import { RANK_STAGES, stagesOf } from "../protocol/rank-metrics.js";
import type { Metrics } from "./metrics.js";

/** A rank's result as it is sent; what is not there is 0. */
interface RankDone {
  readonly timings?: Parameters<typeof stagesOf>[0] | null;
  readonly sentBytes?: number | null;
  readonly receivedBytes?: number | null;
}

/** Over so much of a worker's time its busy share is averaged (exponentially), in s. */
const BUSY_OVER_S = 60;

export class WorkerMetrics {
  private readonly seconds: Counter<"stage">;
  private readonly ranks: Counter;
  private readonly sent: Counter;
  private readonly received: Counter;
  private readonly connected: Gauge;
  private readonly busy: Gauge;
  private busyShare: number | null = null;

  constructor(metrics: Metrics) {
    this.seconds = metrics.counter(
      "tandem_worker_stage_seconds_total",
      "Time of this worker's devices by stage: load, forward, backward, and wait, in which they have nothing to do.",
      "stage",
    );
    this.ranks = metrics.counter(
      "tandem_worker_ranks_total",
      "Ranks (local batches of a step) that this worker has computed.",
    );
    this.sent = metrics.counter(
      "tandem_worker_sent_bytes_total",
      "Payload sent: results, keys, gradients; shared memory is not sent.",
    );
    this.received = metrics.counter(
      "tandem_worker_received_bytes_total",
      "Payload received: weights, keys, the queue; shared memory is not received.",
    );
    this.connected = metrics.gauge(
      "tandem_worker_connected",
      "Whether this worker takes part in a run (1) or waits for one (0).",
    );
    this.busy = metrics.gauge(
      "tandem_worker_busy_ratio",
      "Share of the last minute in which this worker's devices had work.",
    );
  }

  rankDone({ timings, sentBytes, receivedBytes }: RankDone): void {
    this.sent.inc(sentBytes ?? 0);
    this.received.inc(receivedBytes ?? 0);
    this.ranks.inc();
    const stages = stagesOf(timings ?? {});
    for (const stage of RANK_STAGES) this.seconds.inc({ stage }, stages[stage] / 1000);
    const all = RANK_STAGES.reduce((sum, stage) => sum + stages[stage], 0) / 1000;
    if (all <= 0) return;
    const weight = this.busyShare === null ? 1 : 1 - Math.exp(-all / BUSY_OVER_S);
    const worked = all - stages.wait / 1000;
    this.busyShare = (this.busyShare ?? 0) + weight * (worked / all - (this.busyShare ?? 0));
    this.busy.set(this.busyShare);
  }

  takesPart(does: boolean): void {
    this.connected.set(does ? 1 : 0);
  }
}
