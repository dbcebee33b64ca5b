/** The handle on the samples plane, which lives in a thread of this process. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { UserError } from "../src/protocol/errors.js";
import { addressOf } from "../src/transport/index.js";
import type { SampleReport, SampleThreadData } from "./sample-thread.js";

export class SamplesPlane {
  private constructor(
    private readonly thread: Worker,
    readonly port: number,
  ) {}

  /**
   * @param dropped hears of a message that was not answered
   * @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID`, and as `openDataset`
   */
  static async start(data: SampleThreadData, dropped: (peer: string, reason: string) => void): Promise<SamplesPlane> {
    const thread = new Worker(new URL("./sample-thread.js", import.meta.url), { workerData: data });
    const [first] = (await once(thread, "message")) as [SampleReport];
    if (first.kind === "failed") {
      await once(thread, "exit");
      throw new UserError(first.code, first.message);
    }
    if (first.kind !== "listening") throw new Error(`the samples plane began with ${first.kind}`);
    thread.on("message", (report: SampleReport) => {
      if (report.kind === "dropped") dropped(report.peer, report.reason);
    });
    return new SamplesPlane(thread, addressOf(first.endpoint).port);
  }

  async close(): Promise<void> {
    const exited = once(this.thread, "exit");
    this.thread.postMessage(null);
    await exited;
  }
}
