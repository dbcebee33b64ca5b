/** Where an HTTP server of ours listens: HOST:PORT, as a flag gives it. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { UserError } from "../protocol/errors.js";
import { boundingUnread, type Answer } from "./unread.js";

/** Who asks for it, and what its user may write. */
export interface AddressFlag {
  /** with its dashes */
  readonly name: string;
  readonly example: string;
}

export interface HttpAddress {
  /** IPv6 in brackets */
  readonly host: string;
  /** 0: a free one */
  readonly port: number;
}

/** @throws UserError `ADDRESS_INVALID` */
export function httpAddress(text: string, { name, example }: AddressFlag): HttpAddress {
  const [, host, port] = /^(\[[\da-fA-F:.%\w]+\]|[^:/\s]+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535)
    throw new UserError("ADDRESS_INVALID", `${name} ${text} is no address: write HOST:PORT, e.g. ${example}`);
  return { host, port: Number(port) };
}

export interface HttpServer {
  /** `HOST:PORT`, with the port that it has */
  readonly address: string;
  readonly close: () => void;
}

/**
 * Nobody stays for the server.
 * @throws UserError `PORT_IN_USE`, `ADDRESS_INVALID`
 */
export async function serveAt({ host, port }: HttpAddress, flag: AddressFlag, answer: Answer): Promise<HttpServer> {
  const server = createServer(boundingUnread(answer));
  server.listen(port, host.replace(/^\[|\]$/g, ""));
  try {
    await once(server, "listening");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const asked = `${flag.name} ${host}:${String(port)}`;
    if (code === "EADDRINUSE")
      throw new UserError("PORT_IN_USE", `${asked}: the port is in use, choose another`, { cause });
    const remedy = `give an address of this machine, e.g. ${flag.example}`;
    throw new UserError("ADDRESS_INVALID", `${asked}: ${message}; ${remedy}`, { cause });
  }
  server.unref();
  return {
    address: `${host}:${String((server.address() as AddressInfo).port)}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
