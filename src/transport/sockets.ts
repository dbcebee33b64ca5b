/**
 * ZeroMQ sockets that speak typed messages: the first frame is a protobuf message, the others raw bytes. What cannot be
 * decoded is dropped and counted, so a peer that sends garbage costs a log line and nothing else.
 */
import { Dealer, Router, type Message } from "zeromq";
import { UserError } from "../protocol/errors.js";
import type { Codec } from "../protocol/wire.js";
import type { Guard } from "./authenticator.js";
import type { ClientKeys } from "./keys.js";
import { WireError } from "../protocol/wire-error.js";

/** A frame longer than this closes its connection: the largest is a queue of 65,536 keys of 256 floats. */
const MAX_FRAME_BYTES = 256 * 1024 * 1024;
/**
 * Messages waiting for one slow peer; past it a message to that peer is refused and the peer counted as stalled. A version
 * of a model of four billion parameters is so many shards.
 */
const SEND_HIGH_WATER_MARK = 1024;
const RECEIVE_HIGH_WATER_MARK = 256;
/** Messages that may wait for a client's socket to take them. */
const MOST_WAITING = 4096;
/** A connection that has not come through ZeroMQ's handshake by then is closed, in ms. */
const HANDSHAKE_MS = 5000;
/** How long a closing socket may go on sending what it has accepted, in ms. */
const LINGER_MS = 1000;

/** What bounds every socket. */
const LIMITS = {
  sendHighWaterMark: SEND_HIGH_WATER_MARK,
  receiveHighWaterMark: RECEIVE_HIGH_WATER_MARK,
  maxMessageSize: MAX_FRAME_BYTES,
  linger: LINGER_MS,
} as const;

/** What a server's socket tells its owner beside messages. */
export interface ServerListener {
  /** null: whoever reaches the port may speak */
  readonly guard: Guard | null;
  /** a message could not be decoded; it is dropped */
  readonly misread: (peer: string, error: WireError) => void;
  /** somebody did not get through ZeroMQ's handshake */
  readonly refused: (reason: string) => void;
  /** a frame longer than this closes its connection, in bytes; as long as a queue if it is not said */
  readonly mostBytes?: number;
  /** a connection has been closed; ZeroMQ does not say whose, but sending to that peer fails from now on */
  readonly disconnected: () => void;
}

/** Server side of a plane: many peers, each named by its routing id. */
export class RouterSocket<In, Out> {
  private readonly socket: Router;
  private isOpen = true;

  constructor(
    private readonly incoming: Codec<In>,
    private readonly outgoing: Codec<Out>,
    private readonly listener: ServerListener,
  ) {
    const { guard } = listener;
    this.socket = new Router({
      mandatory: true,
      ...LIMITS,
      maxMessageSize: listener.mostBytes ?? MAX_FRAME_BYTES,
      handshakeInterval: HANDSHAKE_MS,
      sendTimeout: 0,
      ...(guard === null
        ? {}
        : {
            curveServer: true,
            curvePublicKey: guard.publicKey,
            curveSecretKey: guard.secretKey,
            zapDomain: guard.domain,
          }),
    });
    void this.watch();
  }

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

  /** Resolves once the socket is closed. @throws whatever `hear` throws, and then listens no more */
  async listen(hear: (peer: string, message: In, frames: readonly Uint8Array[]) => void): Promise<void> {
    for (let parts = await next(this.socket); parts !== null; parts = await next(this.socket)) {
      const [id, head, ...frames] = parts;
      const peer = id.toString("hex");
      const message = decoded(this.incoming, head, (error) => {
        this.listener.misread(peer, error);
      });
      if (message !== null) hear(peer, message, frames);
    }
  }

  /**
   * Sends in the order of the calls.
   * @param unreachable is called later where the peer is gone, or so far behind that its queue is full
   */
  post(peer: string, message: Out, frames: readonly Uint8Array[], unreachable: () => void): void {
    if (!this.isOpen) return;
    this.socket.send([Buffer.from(peer, "hex"), this.outgoing.encode(message), ...frames]).catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EHOSTUNREACH" || code === "EAGAIN") unreachable();
      else if (this.isOpen) throw error;
    });
  }

  close(): void {
    this.isOpen = false;
    this.socket.close();
  }

  private async watch(): Promise<void> {
    for await (const event of this.socket.events) {
      if (!this.isOpen) continue;
      if (event.type === "disconnect") this.listener.disconnected();
      // The authenticator tells who was refused for their key.
      else if (event.type === "handshake:error:protocol" || event.type === "handshake:error:other")
        this.listener.refused(handshakeProblem(this.listener.guard));
    }
  }
}

function handshakeProblem(guard: Guard | null): string {
  return guard === null
    ? "a peer that does not speak ZeroMQ's protocol, or with keys where none are used"
    : "a peer without keys, with keys for another coordinator, or that plays an old handshake again";
}

/** What a client's socket tells its owner beside messages. */
export interface ClientListener {
  readonly keys: ClientKeys | null;
  readonly misread: (error: WireError) => void;
  /** the connection was closed, or is of no more use */
  readonly closed: (reason: string) => void;
}

/** Client side of a plane: one connection to one peer. Once that is closed the socket is of no more use. */
export class DealerSocket<In, Out> {
  private readonly socket: Dealer;
  private readonly outbox: Uint8Array[][] = [];
  /** null: ZeroMQ has accepted everything */
  private sending: Promise<void> | null = null;
  private isOpen = true;

  constructor(
    private readonly incoming: Codec<In>,
    private readonly outgoing: Codec<Out>,
    private readonly listener: ClientListener,
  ) {
    const { keys } = listener;
    this.socket = new Dealer({
      ...LIMITS,
      reconnectInterval: 100,
      reconnectMaxInterval: 1000,
      ...(keys === null
        ? {}
        : { curveServerKey: keys.coordinator, curvePublicKey: keys.publicKey, curveSecretKey: keys.secretKey }),
    });
    void this.watch();
  }

  /** @throws UserError `ENDPOINT_INVALID` */
  connect(endpoint: string): void {
    try {
      this.socket.connect(endpoint);
    } catch (cause) {
      throw new UserError("ENDPOINT_INVALID", `cannot connect to ${endpoint}: write it as tcp://HOST:PORT`, { cause });
    }
  }

  /** Resolves once the socket is closed. @throws whatever `hear` throws, and then listens no more */
  async listen(hear: (message: In, frames: readonly Uint8Array[]) => void): Promise<void> {
    for (let parts = await next(this.socket); parts !== null; parts = await next(this.socket)) {
      const [head, ...frames] = parts;
      const message = decoded(this.incoming, head, this.listener.misread);
      if (message !== null) hear(message, frames);
    }
  }

  /** Sends in the order of the calls. */
  post(message: Out, frames: readonly Uint8Array[] = []): void {
    if (!this.isOpen) return;
    if (this.outbox.length >= MOST_WAITING) {
      this.listener.closed("too much waits to be sent");
      return;
    }
    this.outbox.push([this.outgoing.encode(message), ...frames]);
    this.sending ??= this.send();
  }

  private async send(): Promise<void> {
    try {
      for (let parts = this.outbox.shift(); parts !== undefined && this.isOpen; parts = this.outbox.shift())
        await this.socket.send(parts);
      this.sending = null;
    } catch (error) {
      // Closed amid sending: whoever closed it knows.
      if (this.isOpen) this.listener.closed(String(error));
    }
  }

  /** Resolves once ZeroMQ has accepted everything posted so far. */
  async drained(): Promise<void> {
    await this.sending;
  }

  /** @param lingerMs how long what was accepted may still be sent */
  close(lingerMs = LINGER_MS): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.socket.linger = lingerMs;
    this.socket.close();
  }

  private async watch(): Promise<void> {
    for await (const event of this.socket.events) {
      if (!this.isOpen) continue;
      if (event.type === "disconnect") this.listener.closed("the coordinator has closed it, or is gone");
      else if (event.type === "handshake:error:auth")
        this.listener.closed("the coordinator does not know this worker's key");
      else if (event.type === "handshake:error:protocol" || event.type === "handshake:error:other") {
        this.listener.closed(
          "the handshake failed: the coordinator has other keys, or only one of the two sides uses keys",
        );
      }
    }
  }
}

/** @returns the frames of the next message; null: the socket is closed */
async function next(socket: Dealer | Router): Promise<Message[] | null> {
  if (socket.closed) return null;
  try {
    return await socket.receive();
  } catch (error) {
    if (socket.closed && (error as NodeJS.ErrnoException).code === "EAGAIN") return null;
    throw error;
  }
}

/** @returns null where the first frame is no message, of which `misread` hears */
function decoded<In>(codec: Codec<In>, head: Message | undefined, misread: (error: WireError) => void): In | null {
  try {
    if (head === undefined) throw new WireError("an empty message");
    return codec.decode(head);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    misread(error);
    return null;
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
