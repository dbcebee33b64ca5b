/** Telemetry: logs, the event file, the progress line. */
export { EventFile, type RunEvent, type StepNumbers } from "./events.js";
export { openLogger, type Logger, type LoggerOptions } from "./logger.js";
export { Progress, type ProgressStream } from "./progress.js";
export { progressLine, type StepProgress } from "./progress-line.js";
