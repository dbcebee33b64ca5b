/**
 * Workers that share a process, as load for a coordinator: each has its session and its sockets, as `tandem worker` has them.
 *
 * usage: node tests/bench/worker-crowd.mjs tcp://HOST:PORT COUNT
 */
import { runWorker } from "../../dist/worker/main.js";

const [connect, count] = process.argv.slice(2);
const terms = { connect, keys: null, devices: /** @type {const} */ (["cpu"]), patienceMs: 60_000, graceMs: 1000 };
await Promise.all(
  Array.from({ length: Number(count) }, () => runWorker({ ...terms, signal: new AbortController().signal })),
);
