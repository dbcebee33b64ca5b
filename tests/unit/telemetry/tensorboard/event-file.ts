/** Reading an event file, for tests. */
import { tensorboard } from "../../../../src/telemetry/generated/tensorboard.js";
import { toRecord } from "../../../../src/telemetry/tensorboard/record.js";

/** @returns the bytes of each record @throws where one is not whole */
export function recordsIn(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const bytes = file.subarray(at + 12, at + 12 + Number(file.readBigUInt64LE(at)));
    const record = toRecord(bytes);
    if (Buffer.compare(record, file.subarray(at, at + record.length)) !== 0)
      throw new Error(`no whole record at ${at}`);
    records.push(bytes);
    at += record.length;
  }
  return records;
}

export function eventsIn(file: Buffer) {
  return recordsIn(file).map((record) => {
    const { wallTime, step, fileVersion, sessionLog, summary } = tensorboard.Event.decode(record);
    return { wallTime, step: Number(step ?? 0), fileVersion, sessionLog, summary };
  });
}
