/** A TCP proxy that meddles: it cuts connections, holds bytes back, and changes them. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";

export class Proxy {
  private readonly pairs = new Set<readonly [Socket, Socket]>();
  private heldBackUntil = 0;
  private toCorrupt = 0;

  private constructor(
    private readonly server: Server,
    private readonly overhear: (bytes: Buffer) => void,
  ) {}

  /**
   * Listens at one address and port, and passes everything on to another.
   * @param overhear is given what the near side sends
   */
  static async listen(
    from: { host: string; port: number },
    to: { host: string; port: number },
    overhear: (bytes: Buffer) => void = () => undefined,
  ): Promise<Proxy> {
    const server = createServer();
    const proxy = new Proxy(server, overhear);
    server.on("connection", (near) => {
      proxy.join(near, connect(to.port, to.host));
    });
    server.listen(from.port, from.host);
    await once(server, "listening");
    return proxy;
  }

  /** Cuts every connection. */
  cut(): void {
    for (const pair of this.pairs) for (const socket of pair) socket.destroy();
  }

  /** Holds everything back for a while. */
  delay(ms: number): void {
    this.heldBackUntil = Date.now() + ms;
  }

  /** Changes one byte in each of the next pieces. */
  corrupt(pieces: number): void {
    this.toCorrupt += pieces;
  }

  close(): void {
    this.cut();
    this.server.close();
  }

  private join(near: Socket, far: Socket): void {
    // As ZeroMQ's own: small messages are not kept back.
    for (const socket of [near, far]) socket.setNoDelay();
    const pair = [near, far] as const;
    this.pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (bytes: Buffer) => {
        if (from === near) this.overhear(bytes);
        this.pass(bytes, to);
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
  }

  private pass(bytes: Buffer, to: Socket): void {
    if (this.toCorrupt > 0) {
      this.toCorrupt--;
      bytes[Math.floor(bytes.length / 2)] ^= 0x55;
    }
    const wait = this.heldBackUntil - Date.now();
    if (wait <= 0) to.write(bytes);
    else setTimeout(() => to.write(bytes), wait);
  }
}
