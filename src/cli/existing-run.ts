/** A run directory that is given to be looked at. */
import { existsSync } from "node:fs";
import { holdsRun, runFiles } from "../checkpoint/index.js";
import { UserError } from "../protocol/errors.js";
import { readEvents, type TimedEvent } from "../telemetry/index.js";
import { pathOf } from "./run-options.js";

/** @throws UserError `RUN_MISSING` */
export async function existingRun(given: string): Promise<string> {
  const directory = pathOf("the run directory", given) ?? "";
  if (await holdsRun(directory)) return directory;
  const missing = existsSync(directory) ? "holds no run (no config.yaml)" : "is no directory";
  throw new UserError("RUN_MISSING", `${directory} ${missing}: give the directory that --out named`);
}

/** A run that has just begun has no events yet. @throws UserError `EVENTS_UNREADABLE` */
export async function* eventsIn(directory: string): AsyncGenerator<TimedEvent> {
  try {
    yield* readEvents(runFiles(directory).events);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw unreadable(error);
  }
}

/** @returns what the system said of the file of events, as the user's mistake; other errors as they are */
export function unreadable(error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  return new UserError("EVENTS_UNREADABLE", `cannot read the run's events: ${message}`, { cause: error });
}
