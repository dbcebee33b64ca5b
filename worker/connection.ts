/** The sockets of one link of a worker to its run: control and data, and the memory it may share with the aggregator. */
import type { ParameterLayout } from "../src/models/parameters.js";
import type { VectorArena } from "../src/optim/index.js";
import {
  aggregatorCodec,
  coordinatorCodec,
  workerCodec,
  workerDataCodec,
  type AggregatorMessage,
  type CoordinatorMessage,
  type SegmentOffer,
  type WorkerDataMessage,
  type WorkerMessage,
} from "../src/protocol/wire.js";
import { DealerSocket, type ClientKeys } from "../src/transport/index.js";
import { SharedExchange } from "./shared-exchange.js";
import type { WorkerSession } from "./session.js";

export class Connection {
  private control: DealerSocket<CoordinatorMessage, WorkerMessage> | null = null;
  private data: DealerSocket<AggregatorMessage, WorkerDataMessage> | null = null;
  private shared: SharedExchange | null = null;
  /** not after an aggregator has taken an offer whose own memory is out of reach */
  private mayShare = true;

  /** @param endpoint control plane, `tcp://HOST:PORT` */
  constructor(
    private readonly endpoint: string,
    private readonly keys: ClientKeys | null,
    private readonly session: () => WorkerSession,
    /** something that is no matter of the connection failed */
    private readonly failed: (error: unknown) => void,
  ) {}

  /** shared with the aggregator; null: nothing */
  get memory(): SharedExchange | null {
    return this.shared;
  }

  connect(link: number): void {
    this.control = new DealerSocket(coordinatorCodec, workerCodec, this.listener(link));
    this.control.connect(this.endpoint);
    void this.listen(this.control, (message, frames) => {
      this.session().heard(link, message, frames);
    });
  }

  openData(
    link: number,
    port: number,
    open: WorkerDataMessage & { readonly body: "open" },
    layout: ParameterLayout,
    arena: VectorArena,
  ): void {
    this.shared = this.mayShare ? SharedExchange.offer(layout, arena) : null;
    this.data = new DealerSocket(aggregatorCodec, workerDataCodec, this.listener(link));
    this.data.connect(`${this.endpoint.slice(0, this.endpoint.lastIndexOf(":"))}:${String(port)}`);
    void this.listen(this.data, (message, frames) => {
      this.session().heardData(link, message, frames);
    });
    this.data.post({ ...open, open: { ...open.open, segment: this.shared?.address } });
  }

  /** @throws WireError where the aggregator's memory is out of reach */
  takeMemory(theirs: SegmentOffer): void {
    try {
      this.shared?.take(theirs);
    } catch (error) {
      this.mayShare = false;
      throw error;
    }
  }

  say(message: WorkerMessage, frames: readonly Uint8Array[]): void {
    this.control?.post(message, frames);
  }

  tell(message: WorkerDataMessage, frames: readonly Uint8Array[]): void {
    this.data?.post(message, frames);
  }

  /** Whatever was not sent is dropped: it is of no use to another link. */
  disconnect(): void {
    this.close(0);
  }

  /** At the end of all: what was said last may still go out. */
  async end(): Promise<void> {
    await Promise.race([
      Promise.all([this.control?.drained(), this.data?.drained()]),
      new Promise((resolve) => setTimeout(resolve, 1000).unref()),
    ]);
    this.close();
  }

  private close(lingerMs?: number): void {
    this.control?.close(lingerMs);
    this.data?.close(lingerMs);
    this.shared?.close();
    this.control = this.data = this.shared = null;
  }

  private listener(link: number) {
    return {
      keys: this.keys,
      misread: (error: Parameters<WorkerSession["misread"]>[1]) => {
        this.session().misread(link, error);
      },
      closed: (reason: string) => {
        this.session().linkLost(link, reason);
      },
    };
  }

  private async listen<In, Out>(
    socket: DealerSocket<In, Out>,
    hear: (message: In, frames: readonly Uint8Array[]) => void,
  ): Promise<void> {
    try {
      for await (const { message, frames } of socket) hear(message, frames);
    } catch (error) {
      this.failed(error);
    }
  }
}
