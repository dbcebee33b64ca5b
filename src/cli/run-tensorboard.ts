/** A run as TensorBoard shows it: curves, histograms, pictures and its config. docs/tensorboard.md lists the tags. */
import type { Scores } from "../../coordinator/evaluation-thread.js";
import type { RunObserver, StepReport } from "../../coordinator/server.js";
import type { StateHistogram } from "../../coordinator/state-histograms.js";
import { printConfig, type RunConfig } from "../config/index.js";
import type { PictureNote } from "../telemetry/index.js";
import { EventWriter, histogram, image, scalar, text, type SummaryValue } from "../telemetry/tensorboard/index.js";

export class RunTensorBoard implements Partial<RunObserver> {
  private readonly writer: EventWriter;

  /** @param warn hears, once, that the disk refuses */
  constructor(
    private readonly config: RunConfig,
    directory: string,
    warn: (message: string) => void,
  ) {
    this.writer = new EventWriter(directory, warn);
  }

  /** @param step where the run begins or is taken up: what was written of later ones is of no meaning any more */
  begin(step: number): void {
    this.writer.goOnFrom(step);
    this.add(step, [text("config", `\`\`\`yaml\n${printConfig(this.config)}\`\`\``)]);
  }

  stepDone(report: StepReport): void {
    this.add(report.step, [
      scalar("train/loss", report.loss),
      scalar("train/learning_rate", report.learningRate),
      scalar("train/positive_similarity", report.positiveSimilarity),
      scalar("train/negative_similarity", report.negativeSimilarity),
      scalar("train/contrast_accuracy", report.accuracy),
      scalar("throughput/samples_per_second", report.imagesPerSecond),
      scalar("throughput/step_ms", report.stepMs),
      scalar("throughput/workers", report.workers),
    ]);
  }

  evaluated(step: number, { knn, linear }: Scores): void {
    const probed =
      linear === null ? [] : [scalar("eval/linear_top1", linear.top1), scalar("eval/linear_top5", linear.top5)];
    this.add(step, [scalar("eval/knn_top1", knn), ...probed]);
  }

  checkpointed(step: number, _directory: string, histograms: readonly StateHistogram[]): void {
    this.add(
      step,
      histograms.map(({ tag, histogram: values }) => histogram(tag, values)),
    );
    // A run that is taken up at this step finds all up to it.
    void this.writer.flush();
  }

  wentBack(step: number): void {
    this.writer.goOnFrom(step);
  }

  pictured({ step, picture, width, height }: PictureNote, encoded: Uint8Array): void {
    this.add(step, [image(`pictures/${picture}`, { width, height, encoded })]);
  }

  close(): Promise<void> {
    return this.writer.close();
  }

  private add(step: number, values: SummaryValue[]): void {
    this.writer.add(step, values);
  }
}
