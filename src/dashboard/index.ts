/** The dashboard: what it shows of a run, and its server. */
export { serveDashboard, type Dashboard } from "./server.js";
export { RunView } from "./run-view.js";
