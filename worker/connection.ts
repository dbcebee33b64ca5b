/** The sockets of one link of a worker to its run: control and data, and the memory it may share with aggregators. */
import type { ParameterShard } from "../src/models/shards.js";
import type { VectorArena } from "../src/optim/index.js";
import {
  aggregatorCodec,
  coordinatorCodec,
  workerCodec,
  workerDataCodec,
  type AggregatorAddress,
  type AggregatorMessage,
  type CoordinatorMessage,
  type SegmentOffer,
  type WorkerDataMessage,
  type WorkerMessage,
} from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { addressOf, DealerSocket, type ClientKeys } from "../src/transport/index.js";
import { SharedExchange } from "./shared-exchange.js";
import type { WorkerSession } from "./session.js";

export class Connection {
  private control: DealerSocket<CoordinatorMessage, WorkerMessage> | null = null;
  /** to each aggregator, in the order of their shards */
  private data: DealerSocket<AggregatorMessage, WorkerDataMessage>[] = [];
  private shared: (SharedExchange | null)[] = [];
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

  /** shared with each aggregator; null: nothing */
  get memories(): readonly (SharedExchange | null)[] {
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
    aggregators: readonly AggregatorAddress[],
    open: WorkerDataMessage & { readonly body: "open" },
    shards: readonly ParameterShard[],
    arena: VectorArena,
  ): void {
    for (const [index, { host, port, publicKey }] of aggregators.entries()) {
      const memory = this.mayShare ? SharedExchange.offer(shards[index].layout, arena) : null;
      const socket = new DealerSocket(aggregatorCodec, workerDataCodec, {
        ...this.listener(link),
        keys: this.keys === null || !publicKey ? this.keys : { ...this.keys, coordinator: publicKey },
      });
      this.shared.push(memory);
      this.data.push(socket);
      const address = `tcp://${host ? host : addressOf(this.endpoint).host}:${String(port)}`;
      try {
        socket.connect(address);
      } catch (cause) {
        throw new WireError(`a welcome with an aggregator at ${address}`, { cause });
      }
      void this.listen(socket, (message, frames) => {
        this.session().heardData(link, index, message, frames);
      });
      socket.post({ ...open, open: { ...open.open, segment: memory?.address } });
    }
  }

  /** @throws WireError where the aggregator's memory is out of reach */
  takeMemory(aggregator: number, theirs: SegmentOffer): void {
    try {
      this.shared[aggregator]?.take(theirs);
    } catch (error) {
      this.mayShare = false;
      throw error;
    }
  }

  say(message: WorkerMessage, frames: readonly Uint8Array[]): void {
    this.control?.post(message, frames);
  }

  tell(aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[]): void {
    this.data[aggregator]?.post(message, frames);
  }

  /** Whatever was not sent is dropped: it is of no use to another link. */
  disconnect(): void {
    this.close(0);
  }

  /** At the end of all: what was said last may still go out. */
  async end(): Promise<void> {
    await Promise.race([
      Promise.all([this.control?.drained(), ...this.data.map((socket) => socket.drained())]),
      new Promise((resolve) => setTimeout(resolve, 1000).unref()),
    ]);
    this.close();
  }

  private close(lingerMs?: number): void {
    this.control?.close(lingerMs);
    for (const socket of this.data) socket.close(lingerMs);
    for (const memory of this.shared) memory?.close();
    this.control = null;
    this.data = [];
    this.shared = [];
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
      await socket.listen(hear);
    } catch (error) {
      this.failed(error);
    }
  }
}
