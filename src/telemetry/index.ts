/** Telemetry: logs, the event file, the progress line. */
export {
  EventFile,
  PICTURE_KINDS,
  EventTail,
  readEvents,
  type JoinedWorker,
  type PictureKind,
  type PictureNote,
  type RunEvent,
  type StepNumbers,
  type TimedEvent,
} from "./events.js";
export { Health, serveHealth } from "./health.js";
export type { Metrics } from "./metrics.js";
export { httpAddress, serveAt, type AddressFlag, type HttpAddress } from "./http-address.js";
export { openLogger, type Logger, type LoggerOptions } from "./logger.js";
export { Progress, type ProgressStream } from "./progress.js";
export { duration, progressLine, type StepProgress } from "./progress-line.js";
export { NOT_BEGUN, runStatus, statusAfter, type RunStatus, type WorkerStatus } from "./run-status.js";
export { Timeline, type Moment } from "./timeline.js";
export { STAGES, StageClock, type Shares, type Stage, type StageTotals } from "./stages.js";
export { WorkerMetrics } from "./worker-metrics.js";
