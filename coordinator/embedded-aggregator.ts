/** The coordinator's handle on the aggregator that lives in a thread of its own. */
import { Worker } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";
import type { TrainingState } from "./aggregator.js";
import type { AggregatorCommand, AggregatorReport, AggregatorThreadData } from "./aggregator-thread.js";

export interface AggregatorListener {
  held(step: number, ranks: readonly number[]): void;
  applied(step: number, applyMs: number): void;
  dropped(reason: string): void;
  failed(error: Error): void;
}

export class EmbeddedAggregator {
  private listener: AggregatorListener | null = null;
  private readonly captures: ((state: TrainingState) => void)[] = [];

  private constructor(
    private readonly thread: Worker,
    /** where the data plane listens, with its port */
    readonly endpoint: string,
  ) {
    thread.on("message", (report: AggregatorReport) => {
      this.take(report);
    });
    thread.on("error", (error) => this.listener?.failed(error));
  }

  /** @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID` */
  static async start(data: AggregatorThreadData): Promise<EmbeddedAggregator> {
    const thread = new Worker(new URL("./aggregator-thread.js", import.meta.url), { workerData: data });
    const first = await new Promise<AggregatorReport>((resolve, reject) => {
      thread.once("message", resolve);
      thread.once("error", reject);
    });
    if (first.kind === "listening") return new EmbeddedAggregator(thread, first.endpoint);
    await thread.terminate();
    if (first.kind === "failed") throw new UserError(first.code, first.message);
    throw new Error(`the aggregator began with ${first.kind}`);
  }

  listen(listener: AggregatorListener): void {
    this.listener = listener;
  }

  command(command: AggregatorCommand): void {
    this.thread.postMessage(command);
  }

  /** The state between two updates. Its vectors stay unwritten until `release` is commanded for its version. */
  capture(): Promise<TrainingState> {
    return new Promise((resolve) => {
      this.captures.push(resolve);
      this.command({ kind: "capture" });
    });
  }

  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.thread.once("exit", resolve));
    this.command({ kind: "close" });
    await exited;
  }

  private take(report: AggregatorReport): void {
    switch (report.kind) {
      case "held":
        this.listener?.held(report.step, report.ranks);
        return;
      case "applied":
        this.listener?.applied(report.step, report.applyMs);
        return;
      case "captured":
        this.captures.shift()?.(report.state);
        return;
      case "dropped":
        this.listener?.dropped(report.reason);
        return;
      case "failed":
        this.listener?.failed(new UserError(report.code, report.message));
        return;
      case "listening":
        return;
    }
  }
}
