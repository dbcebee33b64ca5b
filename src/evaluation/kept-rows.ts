/**
 * Features in a file, batch by batch as they are computed, so that an extraction that was cut off goes on behind its last row. A row
 * is the number of its sample, int32, and its features, float32, in this machine's byte order.
 */
import { mkdir, open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { UserError } from "../protocol/errors.js";

const WORD_BYTES = 4;

export interface Rows {
  /** int32 `[n]` */
  readonly samples: Int32Array;
  /** float32 `[n, dimension]` */
  readonly features: Float32Array;
}

export class KeptRows {
  private constructor(
    private readonly file: FileHandle,
    private readonly dimension: number,
    /** what an earlier extraction left */
    readonly found: Rows,
  ) {}

  /**
   * A row that was written in part is computed anew.
   * @throws UserError `KEEP_UNUSABLE` where the file can be neither opened nor made
   */
  static async open(path: string, dimension: number): Promise<KeptRows> {
    let file: FileHandle;
    try {
      await mkdir(dirname(path), { recursive: true });
      file = await open(path, "a+");
    } catch (cause) {
      const { code = "unreadable" } = cause as NodeJS.ErrnoException;
      throw new UserError("KEEP_UNUSABLE", `cannot keep features in ${path} (${code}): give another --keep`, { cause });
    }
    const { size } = await file.stat();
    const rowWords = 1 + dimension;
    const count = Math.floor(size / (rowWords * WORD_BYTES));
    await file.truncate(count * rowWords * WORD_BYTES);
    const numbers = new Int32Array(count * rowWords);
    await file.read(numbers, 0, numbers.byteLength, 0);
    const values = new Float32Array(numbers.buffer);
    const features = new Float32Array(count * dimension);
    for (let row = 0; row < count; row++) {
      features.set(values.subarray(row * rowWords + 1, (row + 1) * rowWords), row * dimension);
    }
    return new KeptRows(file, dimension, {
      samples: Int32Array.from({ length: count }, (_, row) => numbers[row * rowWords]),
      features,
    });
  }

  async append({ samples, features }: Rows): Promise<void> {
    const rowWords = 1 + this.dimension;
    const numbers = new Int32Array(samples.length * rowWords);
    const values = new Float32Array(numbers.buffer);
    samples.forEach((sample, row) => {
      numbers[row * rowWords] = sample;
      values.set(features.subarray(row * this.dimension, (row + 1) * this.dimension), row * rowWords + 1);
    });
    await this.file.appendFile(new Uint8Array(numbers.buffer));
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
