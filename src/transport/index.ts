/** Typed messages over ZeroMQ. */
export { DealerSocket, RouterSocket, type DropListener, type Received } from "./sockets.js";
