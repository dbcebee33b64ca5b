/** The handle on an aggregator that lives in a thread of this process. */
import type { Worker } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";
import { vectorsOf, type TrainingState } from "./aggregator.js";
import type { AggregatorHandle, AggregatorListener } from "./aggregators.js";
import { startPlaneThread } from "./plane-thread.js";
import type { AggregatorThreadData, ThreadCommand, ThreadReport } from "./aggregator-thread.js";

export class EmbeddedAggregator implements AggregatorHandle {
  private listener: AggregatorListener | null = null;

  private constructor(
    private readonly thread: Worker,
    /** where the data plane listens, with its port */
    readonly endpoint: string,
  ) {
    thread.on("message", (report: ThreadReport) => {
      this.take(report);
    });
    thread.on("error", (error) => this.listener?.failed(error));
  }

  /**
   * @param state handed over: its vectors are empty from now on
   * @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID`
   */
  static async start(data: AggregatorThreadData, state: TrainingState): Promise<EmbeddedAggregator> {
    const buffers = vectorsOf(state).map(({ buffer }) => buffer as ArrayBuffer);
    const handed = { message: state, transfer: [...new Set(buffers)] };
    const program = new URL("./aggregator-thread.js", import.meta.url);
    const { thread, endpoint } = await startPlaneThread(program, data, handed);
    return new EmbeddedAggregator(thread, endpoint);
  }

  listen(listener: AggregatorListener): void {
    this.listener = listener;
  }

  command(command: ThreadCommand): void {
    this.thread.postMessage(command);
  }

  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.thread.once("exit", resolve));
    this.command({ kind: "close" });
    await exited;
  }

  private take(report: ThreadReport): void {
    if (report.kind === "failed") this.listener?.failed(new UserError(report.code, report.message));
    else if (report.kind !== "listening") this.listener?.reported(report);
  }
}
