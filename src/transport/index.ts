/** Typed messages over ZeroMQ. */
export { DealerSocket, RouterSocket, type DropListener, type Received } from "./sockets.js";
export { SharedSegment, type SegmentAddress } from "./shared-segment.js";
