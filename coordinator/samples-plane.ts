/** The handle on the samples plane, which lives in a thread of this process. */
import type { Worker } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";
import { addressOf } from "../src/transport/index.js";
import { startPlaneThread } from "./plane-thread.js";
import type { SampleReport, SampleThreadData } from "./sample-thread.js";

export class SamplesPlane {
  private readonly failing = new AbortController();
  /** aborted, with the error, where a sample cannot be read or the plane is no more: no worker without a data set can go on */
  readonly failed = this.failing.signal;
  private readonly exited: Promise<unknown>;

  private constructor(
    private readonly thread: Worker,
    readonly port: number,
    dropped: (peer: string, reason: string) => void,
  ) {
    this.exited = new Promise((resolve) => thread.once("exit", resolve));
    thread.on("message", (report: SampleReport) => {
      if (report.kind === "dropped") dropped(report.peer, report.reason);
      else if (report.kind === "failed") this.failing.abort(new UserError(report.code, report.message));
    });
    thread.on("error", (error) => {
      this.failing.abort(error);
    });
  }

  /**
   * @param dropped hears of a message that was not answered
   * @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID`, and as `openDataset`
   */
  static async start(data: SampleThreadData, dropped: (peer: string, reason: string) => void): Promise<SamplesPlane> {
    const { thread, endpoint } = await startPlaneThread(new URL("./sample-thread.js", import.meta.url), data);
    return new SamplesPlane(thread, addressOf(endpoint).port, dropped);
  }

  async close(): Promise<void> {
    this.thread.postMessage(null);
    await this.exited;
  }
}
