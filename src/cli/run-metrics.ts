/** What a coordinator measures of its run. */
import type { Counter, Gauge, Histogram } from "prom-client";
import type { Scores } from "../../coordinator/evaluation-thread.js";
import type { RunObserver, StepReport } from "../../coordinator/server.js";
import type { RunConfig } from "../config/index.js";
import { RANK_STAGES, stagesOf } from "../protocol/rank-metrics.js";
import { SOFTWARE_VERSION } from "../protocol/version.js";
import type { JoinedWorker, Metrics, Moment } from "../telemetry/index.js";

/** Of a step, in s: from tiny encoders on one machine to large ones on many. */
const STEP_BUCKETS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

export class RunMetrics implements Partial<RunObserver> {
  private readonly gauges;
  private readonly counters;
  private readonly stepSeconds: Histogram;
  private readonly stage: Counter<"worker" | "stage">;
  private readonly ranks: Counter<"worker">;
  private readonly slow: Gauge<"worker">;
  /** of those that are here */
  private readonly devices = new Map<string, number>();

  constructor(metrics: Metrics, config: RunConfig) {
    const gauge = (name: string, help: string) => metrics.gauge(`tandem_${name}`, help);
    const counter = (name: string, help: string) => metrics.counter(`tandem_${name}_total`, help);
    const labels = { method: config.method, encoder: config.model.encoder, version: SOFTWARE_VERSION };
    const info = "The run's method and encoder, and Tandem's version; always 1.";
    metrics.gauge("tandem_run_info", info, ...Object.keys(labels)).set(labels, 1);
    this.gauges = {
      step: gauge("step", "Steps that the run has made."),
      planned: gauge("planned_steps", "Steps that the run is to make in all."),
      loss: gauge("loss", "Contrastive loss of the last step, mean over its ranks, in nats."),
      learningRate: gauge("learning_rate", "Learning rate of the last step."),
      positive: gauge(
        "positive_similarity_ratio",
        "Mean cosine similarity of positive pairs in the last step, -1 to 1.",
      ),
      negative: gauge(
        "negative_similarity_ratio",
        "Mean cosine similarity of negative pairs in the last step, -1 to 1.",
      ),
      contrast: gauge(
        "contrast_accuracy_ratio",
        "Share of the last step's queries whose positive was the most similar.",
      ),
      knn: gauge("knn_accuracy_ratio", "kNN accuracy of the last evaluation."),
      rate: gauge("samples_per_second", "Samples that the last step has taken in a second."),
      workers: gauge("workers", "Workers that take part in the run."),
      devices: gauge("devices", "Devices of all workers that take part in the run."),
      checkpointed: gauge("last_checkpoint_timestamp_seconds", "When the last checkpoint was written, Unix time."),
      corrupt: gauge("corrupt_samples", "Samples that could not be decoded and were replaced."),
    };
    this.counters = {
      samples: counter("samples", "Samples that went into updates."),
      skipped: counter("skipped_steps", "Steps left out because their loss or gradient was not finite."),
      joined: counter("workers_joined", "Workers that have joined, again and again included."),
      left: counter("workers_left", "Workers that have left, or were lost."),
      dropped: counter("dropped_messages", "Messages and peers that were refused or dropped."),
      checkpoints: counter("checkpoints", "Checkpoints written."),
      back: counter("rollbacks", "Times that the run went back to a checkpoint, because an aggregator was lost."),
    };
    this.stepSeconds = metrics.histogram(
      "tandem_step_duration_seconds",
      "Time from one step's update to the next.",
      STEP_BUCKETS,
    );
    this.stage = metrics.counter(
      "tandem_stage_seconds_total",
      "Time of a worker's devices by stage, as it reports it: load, forward, backward, and wait.",
      ...(["worker", "stage"] as const),
    );
    this.ranks = metrics.counter("tandem_ranks_total", "Ranks that a worker has given the run.", "worker");
    this.slow = metrics.gauge(
      "tandem_straggler",
      "Whether a worker is a straggler (1) and gets fewer ranks.",
      "worker",
    );
  }

  stepDone(report: StepReport): void {
    const { gauges, counters } = this;
    gauges.step.set(report.step);
    gauges.planned.set(report.totalSteps);
    gauges.loss.set(report.loss);
    gauges.learningRate.set(report.learningRate);
    gauges.positive.set(report.positiveSimilarity);
    gauges.negative.set(report.negativeSimilarity);
    gauges.contrast.set(report.accuracy);
    gauges.rate.set(report.imagesPerSecond);
    counters.samples.inc((report.imagesPerSecond * report.stepMs) / 1000);
    this.stepSeconds.observe(report.stepMs / 1000);
  }

  stepSkipped(step: number): void {
    this.gauges.step.set(step);
    this.counters.skipped.inc();
  }

  evaluated(_step: number, { knn }: Scores): void {
    this.gauges.knn.set(knn);
  }

  workerJoined({ worker, devices }: JoinedWorker): void {
    this.devices.set(worker, devices);
    this.slow.set({ worker }, 0);
    this.counters.joined.inc();
    this.count();
  }

  workerLeft(worker: string): void {
    this.devices.delete(worker);
    // Names are not used again: without this, a long run's metrics would grow with every worker that ever came.
    for (const stage of RANK_STAGES) this.stage.remove({ worker, stage });
    this.ranks.remove({ worker });
    this.slow.remove({ worker });
    this.counters.left.inc();
    this.count();
  }

  straggler(worker: string, slow: boolean): void {
    this.slow.set({ worker }, slow ? 1 : 0);
  }

  dropped(): void {
    this.counters.dropped.inc();
  }

  corrupt(_name: string, count: number): void {
    this.gauges.corrupt.set(count);
  }

  checkpointed(): void {
    this.counters.checkpoints.inc();
    this.gauges.checkpointed.setToCurrentTime();
  }

  wentBack(step: number): void {
    this.counters.back.inc();
    this.gauges.step.set(step);
    for (const worker of [...this.devices.keys()]) this.workerLeft(worker);
  }

  happened(moment: Moment): void {
    if (moment.kind !== "rank-done") return;
    const { worker, metrics } = moment;
    const times = stagesOf(metrics);
    for (const stage of RANK_STAGES) this.stage.inc({ worker, stage }, times[stage] / 1000);
    this.ranks.inc({ worker });
  }

  private count(): void {
    this.gauges.workers.set(this.devices.size);
    this.gauges.devices.set([...this.devices.values()].reduce((sum, devices) => sum + devices, 0));
  }
}
