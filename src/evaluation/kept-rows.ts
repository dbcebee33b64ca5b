/**
 * Features in a file, batch by batch as they are computed, so that an extraction that was cut off goes on behind its last row. A row
 * is the number of its sample, int32, and its features, float32, in this machine's byte order. Each has its place, so that two
 * extractions of the same at once write the same bytes there.
 */
import { constants } from "node:fs";
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { UserError } from "../protocol/errors.js";

const WORD_BYTES = 4;
/** Rows that are read at a time: the system reads no 2 GiB at once. */
const READ_ROWS = 4096;

export interface Rows {
  /** int32 `[n]` */
  readonly samples: Int32Array;
  /** float32 `[n, dimension]` */
  readonly features: Float32Array;
}

export class KeptRows {
  /** rows there are */
  private count: number;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly dimension: number,
    /** what an earlier extraction left */
    readonly found: Rows,
  ) {
    this.count = found.samples.length;
  }

  /**
   * A row that was written in part is computed anew.
   * @throws UserError `KEEP_UNUSABLE` where the file can be neither opened nor made, or not read
   */
  static open(path: string, dimension: number): Promise<KeptRows> {
    return usable(path, async () => {
      await mkdir(dirname(path), { recursive: true });
      const file = await open(path, constants.O_RDWR | constants.O_CREAT);
      return new KeptRows(path, file, dimension, await rowsOf(file, dimension));
    });
  }

  /** @throws UserError `KEEP_UNUSABLE` where it cannot be written, as on a full disk; what was kept before stays of use */
  async append({ samples, features }: Rows): Promise<void> {
    const rowWords = 1 + this.dimension;
    const numbers = new Int32Array(samples.length * rowWords);
    const values = new Float32Array(numbers.buffer);
    samples.forEach((sample, row) => {
      numbers[row * rowWords] = sample;
      values.set(features.subarray(row * this.dimension, (row + 1) * this.dimension), row * rowWords + 1);
    });
    const bytes = new Uint8Array(numbers.buffer);
    await usable(this.path, async () => {
      const start = this.count * rowWords * WORD_BYTES;
      for (let written = 0; written < bytes.length;) {
        written += (await this.file.write(bytes, written, bytes.length - written, start + written)).bytesWritten;
      }
    });
    this.count += samples.length;
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** Whole rows, as far as they go. */
async function rowsOf(file: FileHandle, dimension: number): Promise<Rows> {
  const rowWords = 1 + dimension;
  const rowBytes = rowWords * WORD_BYTES;
  const count = Math.floor((await file.stat()).size / rowBytes);
  const samples = new Int32Array(count);
  const features = new Float32Array(count * dimension);
  const numbers = new Int32Array(READ_ROWS * rowWords);
  const values = new Float32Array(numbers.buffer);
  for (let start = 0; start < count; start += READ_ROWS) {
    const rows = Math.min(READ_ROWS, count - start);
    for (let read = 0; read < rows * rowBytes;) {
      const { bytesRead } = await file.read(
        new Uint8Array(numbers.buffer),
        read,
        rows * rowBytes - read,
        start * rowBytes + read,
      );
      if (bytesRead === 0) return { samples: samples.slice(0, start), features: features.slice(0, start * dimension) };
      read += bytesRead;
    }
    for (let row = 0; row < rows; row++) {
      samples[start + row] = numbers[row * rowWords];
      features.set(values.subarray(row * rowWords + 1, (row + 1) * rowWords), (start + row) * dimension);
    }
  }
  return { samples, features };
}

async function usable<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    const { code = "unreadable" } = cause as NodeJS.ErrnoException;
    const message = `cannot keep features in ${path} (${code}): make room, or give another --keep`;
    throw new UserError("KEEP_UNUSABLE", message, { cause });
  }
}
