/** Typed messages over ZeroMQ. */
export { createKeys, newKeyFiles, readClientKeys, readServerKeys, type ClientKeys, type ServerKeys } from "./keys.js";
export { openGuard, type Guard } from "./authenticator.js";
export { addressOf, anyPort, isHost, isLoopback, isWildcard, nextPort } from "./endpoint.js";
export { DealerSocket, RouterSocket } from "./sockets.js";
export { pagedBytes, SharedSegment, type SegmentAddress } from "./shared-segment.js";
