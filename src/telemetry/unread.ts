/** HTTP clients that ask on and on and do not read. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Requests of one connection whose answers it has not read. A browser has one, a client that pipelines a few. */
const MOST_UNREAD = 8;

/** A listener for requests; a connection whose answers pile up is closed: each would be kept in memory until it is read. */
export function boundingUnread(answer: Answer): Answer {
  const unread = new WeakMap<Socket, number>();
  return (request, response) => {
    const { socket } = request;
    const before = unread.get(socket) ?? 0;
    if (before >= MOST_UNREAD) {
      socket.destroy();
      return;
    }
    unread.set(socket, before + 1);
    response.on("close", () => unread.set(socket, (unread.get(socket) ?? 1) - 1));
    answer(request, response);
  };
}
