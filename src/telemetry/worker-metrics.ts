/** What a worker measures of itself. */
import { Counter, Gauge } from "prom-client";
import type { Metrics } from "./metrics.js";

/** A rank's result as it is sent; what is not there is 0. */
interface RankDone {
  /** in ms */
  readonly timings?: {
    readonly loadMs?: number | null;
    readonly forwardMs?: number | null;
    readonly backwardMs?: number | null;
    /** nothing to do: keys, gradients and weights are on their way, or others compute */
    readonly exchangeMs?: number | null;
  } | null;
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

  constructor({ registry }: Metrics) {
    const registers = [registry];
    this.seconds = new Counter({
      ...{ registers, name: "tandem_worker_stage_seconds_total", labelNames: ["stage"] },
      help: "Time of this worker's devices by stage: load, forward, backward, and wait, in which they have nothing to do.",
    });
    this.ranks = new Counter({
      ...{ registers, name: "tandem_worker_ranks_total" },
      help: "Ranks (local batches of a step) that this worker has computed.",
    });
    this.sent = new Counter({
      ...{ registers, name: "tandem_worker_sent_bytes_total" },
      help: "Payload sent: results, keys, gradients; shared memory is not sent.",
    });
    this.received = new Counter({
      ...{ registers, name: "tandem_worker_received_bytes_total" },
      help: "Payload received: weights, keys, the queue; shared memory is not received.",
    });
    this.connected = new Gauge({
      ...{ registers, name: "tandem_worker_connected" },
      help: "Whether this worker takes part in a run (1) or waits for one (0).",
    });
    this.busy = new Gauge({
      ...{ registers, name: "tandem_worker_busy_ratio" },
      help: "Share of the last minute in which this worker's devices had work.",
    });
  }

  rankDone({ timings, sentBytes, receivedBytes }: RankDone): void {
    const { loadMs, forwardMs, backwardMs, exchangeMs } = timings ?? {};
    this.sent.inc(sentBytes ?? 0);
    this.received.inc(receivedBytes ?? 0);
    const stages = { load: loadMs ?? 0, forward: forwardMs ?? 0, backward: backwardMs ?? 0, wait: exchangeMs ?? 0 };
    for (const [stage, ms] of Object.entries(stages)) this.seconds.inc({ stage }, ms / 1000);
    this.ranks.inc();
    const worked = (stages.load + stages.forward + stages.backward) / 1000;
    const all = worked + stages.wait / 1000;
    if (all <= 0) return;
    const weight = this.busyShare === null ? 1 : 1 - Math.exp(-all / BUSY_OVER_S);
    this.busyShare = (this.busyShare ?? 0) + weight * (worked / all - (this.busyShare ?? 0));
    this.busy.set(this.busyShare);
  }

  takesPart(does: boolean): void {
    this.connected.set(does ? 1 : 0);
  }
}
