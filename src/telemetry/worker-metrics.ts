/** What a worker measures of itself. */
import { Counter, Gauge } from "prom-client";
import type { Metrics } from "./metrics.js";

/** Parts of a rank, in ms, as a result carries them; what is not there is 0. */
interface RankTimes {
  readonly loadMs?: number | null;
  readonly forwardMs?: number | null;
  readonly backwardMs?: number | null;
  /** nothing to do: keys, gradients and weights are on their way, or others compute */
  readonly exchangeMs?: number | null;
}

/** Over so much of a worker's time its busy share is averaged (exponentially), in s. */
const BUSY_OVER_S = 60;

export class WorkerMetrics {
  private readonly seconds: Counter<"stage">;
  private readonly ranks: Counter;
  private readonly sent: Counter<"plane">;
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
      ...{ registers, name: "tandem_worker_sent_bytes_total", labelNames: ["plane"] },
      help: "Payload sent to the coordinator (plane control: results, keys) and to aggregators (plane data: gradients); shared memory is not sent.",
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

  rankDone({ loadMs, forwardMs, backwardMs, exchangeMs }: RankTimes): void {
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

  sentBytes(plane: "control" | "data", frames: readonly Uint8Array[]): void {
    this.sent.inc({ plane }, bytesOf(frames));
  }

  receivedBytes(frames: readonly Uint8Array[]): void {
    this.received.inc(bytesOf(frames));
  }

  takesPart(does: boolean): void {
    this.connected.set(does ? 1 : 0);
  }
}

function bytesOf(frames: readonly Uint8Array[]): number {
  return frames.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
