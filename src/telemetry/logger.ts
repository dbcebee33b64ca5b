/** Logs of one process: JSON lines (pino) in a file, and warnings as plain lines for whoever watches. */
import { pino, type Logger } from "pino";

export type { Logger } from "pino";

/** pino's number for the level from which a record is shown to people. */
const WARN_LEVEL = 40;

export interface LoggerOptions {
  /** in each record, e.g. `coordinator` or `worker-1` */
  readonly process: string;
  /** file to append to, created with its folders at the first record; null: none */
  readonly file: string | null;
  /** takes each warning and error as one line, without line break */
  readonly show: (line: string) => void;
}

/** Each record is in the file when the call returns, so a crash loses none. */
export function openLogger({ process, file, show }: LoggerOptions): Logger {
  const streams = [{ level: "warn", stream: { write: (record: string) => show(humanLine(record)) } } as const];
  const options = { base: { process }, timestamp: pino.stdTimeFunctions.isoTime };
  if (file === null) return pino(options, pino.multistream(streams));
  return pino(options, pino.multistream([...streams, { level: "info", stream: lazyFile(file) }]));
}

/** A run directory that turns out to be another run's must not get a log file first. */
function lazyFile(path: string): { write(record: string): void } {
  let destination: ReturnType<typeof pino.destination> | null = null;
  return {
    write: (record) => {
      try {
        destination ??= opened(path);
        destination.write(record);
      } catch (error) {
        if (!(error instanceof Error && "errno" in error)) throw error;
      }
    },
  };
}

/** A disk that refuses costs lines, not the run. */
function opened(path: string): ReturnType<typeof pino.destination> {
  const destination = pino.destination({ dest: path, mkdir: true, sync: true });
  destination.on("error", () => undefined);
  return destination;
}

/** A pino record as a person reads it: `worker-1: warning: …` */
export function humanLine(record: string): string {
  const { level, process, msg } = JSON.parse(record) as { level: number; process?: string; msg?: string };
  const severity = level > WARN_LEVEL ? "error" : "warning";
  return `${process ?? "tandem"}: ${severity}: ${msg ?? ""}`;
}
