/**
 * Writes one of TensorBoard's event files. Nobody waits for the disk: events gather in memory and are written a few seconds later.
 * A disk that refuses costs events, not the run, and leaves no half of an event, past which no reader would go.
 */
import { mkdir, open, readdir, type FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { clearInterval, setInterval } from "node:timers";
import { tensorboard } from "../generated/tensorboard.js";
import { toRecord } from "./record.js";
import type { SummaryValue } from "./summary.js";

/** A file's first event. */
const FILE_VERSION = { step: 0, what: "fileVersion", fileVersion: "brain.Event:2" } as const;
const FLUSH_EVERY_MS = 2000;
/** Of events that wait for the disk; there is no room for those that come then. */
const MOST_WAITING_BYTES = 16 * 1024 * 1024;

type Event = tensorboard.Event.$Shape;

export class EventWriter {
  private file: FileHandle | null = null;
  /** bytes of whole records in the file */
  private size = 0;
  /** whether more than `size` may be in the file */
  private isTorn = false;
  private readonly waiting: Uint8Array[] = [];
  private waitingBytes = 0;
  /** events for which there was no room since one was written */
  private lost = 0;
  private isRefused = false;
  private writing: Promise<void> | null = null;
  private readonly timer: NodeJS.Timeout;

  /**
   * @param directory made, if it is not there, when there is something to write
   * @param now Unix time in ms
   * @param warn hears, once, that the disk refuses, and, once it takes events again, how many are lost
   */
  constructor(
    private readonly directory: string,
    private readonly warn: (message: string) => void,
    private readonly now: () => number = Date.now,
  ) {
    this.timer = setInterval(() => void this.flush(), FLUSH_EVERY_MS);
    this.timer.unref();
  }

  /** Readers forget what they have read, in this file or one before it, of steps after this one. */
  goOnFrom(step: number): void {
    const { START: status } = tensorboard.SessionLog.SessionStatus;
    this.append({ step: step + 1, what: "sessionLog", sessionLog: { status } });
  }

  add(step: number, values: SummaryValue[]): void {
    this.append({ step, what: "summary", summary: { value: values } });
  }

  /** @returns once all that was added is in the file, or the disk refuses */
  flush(): Promise<void> {
    this.writing ??= this.writeAll().finally(() => {
      this.writing = null;
    });
    return this.writing;
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
    await this.file?.close();
  }

  private append(event: Omit<Event, "wallTime">): void {
    const record = this.recordOf(event);
    if (this.waitingBytes + record.length > MOST_WAITING_BYTES) {
      this.lost++;
      return;
    }
    this.waiting.push(record);
    this.waitingBytes += record.length;
  }

  private recordOf(event: Omit<Event, "wallTime">): Uint8Array {
    return toRecord(tensorboard.Event.encode({ ...event, wallTime: this.now() / 1000 }).finish());
  }

  private async writeAll(): Promise<void> {
    try {
      while (this.waiting.length > 0) await this.writeWaiting();
    } catch (error) {
      // Errors of the system carry its number: a full disk, a read-only one.
      if (!(error instanceof Error && "errno" in error)) throw error;
      if (!this.isRefused) this.warn(`TensorBoard's events cannot be written: ${error.message}; the run goes on`);
      this.isRefused = true;
    }
  }

  private async writeWaiting(): Promise<void> {
    if (this.file === null) {
      this.file = await this.open();
      const first = this.recordOf(FILE_VERSION);
      this.waiting.unshift(first);
      this.waitingBytes += first.length;
    }
    if (this.isTorn) await this.file.truncate(this.size);
    this.isTorn = true;
    const count = this.waiting.length;
    const bytes = Buffer.concat(this.waiting);
    await this.file.appendFile(bytes);
    this.isTorn = false;
    this.size += bytes.length;
    this.waiting.splice(0, count);
    this.waitingBytes -= bytes.length;
    // A disk that hangs loses events too.
    if (this.isRefused || this.lost > 0) this.warn(`TensorBoard's events are written again; ${this.lost} are lost`);
    this.isRefused = false;
    this.lost = 0;
  }

  /** Readers take the files in the order of the times in their names: this is the last, whatever the clock says. */
  private async open(): Promise<FileHandle> {
    await mkdir(this.directory, { recursive: true });
    const times = (await readdir(this.directory)).map((name) =>
      Number(/^events\.out\.tfevents\.(\d+)\./.exec(name)?.[1] ?? 0),
    );
    const seconds = Math.max(Math.floor(this.now() / 1000), ...times.map((time) => time + 1));
    const name = `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`;
    return open(join(this.directory, name), "ax");
  }
}
