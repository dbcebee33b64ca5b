/**
 * ZeroMQ sockets that speak typed messages: the first frame is a protobuf message, the others raw bytes. What cannot be
 * decoded is dropped and counted, so a peer that sends garbage costs a log line and nothing else.
 */
import { Dealer, Router, type Message } from "zeromq";
import { UserError } from "../protocol/errors.js";
import type { Codec } from "../protocol/wire.js";
import { WireError } from "../protocol/wire-error.js";

/** A frame longer than this closes its connection: the largest is a queue of 65,536 keys of 256 floats. */
const MAX_FRAME_BYTES = 256 * 1024 * 1024;
/** Messages waiting for one slow peer; past it a message to that peer is refused and the peer counted as stalled. */
const SEND_HIGH_WATER_MARK = 64;
const RECEIVE_HIGH_WATER_MARK = 256;
/** How long a closing socket may go on sending what it has accepted, in ms. */
const LINGER_MS = 1000;

/** A message from a peer of a router. */
export interface Received<Message> {
  /** the peer's address on this socket: opaque bytes as hex */
  readonly peer: string;
  readonly message: Message;
  readonly frames: readonly Uint8Array[];
}

/** What was dropped and why; the owner logs it. */
export type DropListener = (peer: string, error: WireError) => void;

/** Server side of a plane: many peers, each named by its routing id. */
export class RouterSocket<In, Out> {
  private readonly socket = new Router({
    mandatory: true,
    sendHighWaterMark: SEND_HIGH_WATER_MARK,
    receiveHighWaterMark: RECEIVE_HIGH_WATER_MARK,
    maxMessageSize: MAX_FRAME_BYTES,
    linger: LINGER_MS,
    sendTimeout: 0,
  });
  /** messages that could not be decoded */
  dropped = 0;

  constructor(
    private readonly incoming: Codec<In>,
    private readonly outgoing: Codec<Out>,
    private readonly onDrop: DropListener,
  ) {}

  /**
   * @param endpoint `tcp://HOST:PORT`; `*` as the port takes a free one
   * @returns the endpoint with the port that was bound
   * @throws UserError `PORT_IN_USE`, `ENDPOINT_INVALID`
   */
  async bind(endpoint: string): Promise<string> {
    try {
      await this.socket.bind(endpoint);
    } catch (cause) {
      throw bindError(endpoint, cause);
    }
    return this.socket.lastEndpoint ?? endpoint;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Received<In>> {
    for await (const [id, head, ...frames] of this.socket as AsyncIterable<Message[]>) {
      const peer = id?.toString("hex") ?? "";
      try {
        if (head === undefined) throw new WireError("an empty message");
        yield { peer, message: this.incoming.decode(head), frames };
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.dropped++;
        this.onDrop(peer, error);
      }
    }
  }

  /** @returns false where the peer is gone, or so far behind that its queue is full */
  async send(peer: string, message: Out, frames: readonly Uint8Array[] = []): Promise<boolean> {
    try {
      await this.socket.send([Buffer.from(peer, "hex"), this.outgoing.encode(message), ...frames]);
      return true;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "EHOSTUNREACH" || code === "EAGAIN") return false;
      throw error;
    }
  }

  close(): void {
    this.socket.close();
  }
}

/** Client side of a plane: one peer, reconnected to by ZeroMQ for as long as the socket is open. */
export class DealerSocket<In, Out> {
  private readonly socket = new Dealer({
    sendHighWaterMark: SEND_HIGH_WATER_MARK,
    receiveHighWaterMark: RECEIVE_HIGH_WATER_MARK,
    maxMessageSize: MAX_FRAME_BYTES,
    linger: LINGER_MS,
    reconnectInterval: 100,
    reconnectMaxInterval: 5000,
  });
  private sending: Promise<void> = Promise.resolve();
  dropped = 0;

  constructor(
    private readonly incoming: Codec<In>,
    private readonly outgoing: Codec<Out>,
    private readonly onDrop: DropListener,
  ) {}

  /** @throws UserError `ENDPOINT_INVALID` */
  connect(endpoint: string): void {
    try {
      this.socket.connect(endpoint);
    } catch (cause) {
      throw new UserError("ENDPOINT_INVALID", `cannot connect to ${endpoint}: write it as tcp://HOST:PORT`, { cause });
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Omit<Received<In>, "peer">> {
    for await (const [head, ...frames] of this.socket as AsyncIterable<Message[]>) {
      try {
        if (head === undefined) throw new WireError("an empty message");
        yield { message: this.incoming.decode(head), frames };
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.dropped++;
        this.onDrop("", error);
      }
    }
  }

  /** Resolves once ZeroMQ has accepted the message; calls are served in order. */
  send(message: Out, frames: readonly Uint8Array[] = []): Promise<void> {
    const parts = [this.outgoing.encode(message), ...frames];
    this.sending = this.sending.then(() => this.socket.send(parts));
    return this.sending;
  }

  close(): void {
    this.socket.close();
  }
}

function bindError(endpoint: string, cause: unknown): Error {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === "EADDRINUSE") {
    return new UserError("PORT_IN_USE", `${endpoint} is in use: stop what listens there or choose another port`, {
      cause,
    });
  }
  return new UserError(
    "ENDPOINT_INVALID",
    `cannot listen on ${endpoint} (${String(code)}): write it as tcp://ADDRESS:PORT with an address of this machine`,
    { cause },
  );
}
