/** The dashboard: what it shows of a run, and its server. */
export { COOKIE, serveDashboard, type Dashboard } from "./server.js";
export { RunView, type WorkerView } from "./run-view.js";
export { snapshotOf, type Snapshot } from "./snapshot.js";
