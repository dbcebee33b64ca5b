/** Reading a file here and there: headers that lie apart, and what they lead to. */
import { open, type FileHandle } from "node:fs/promises";

/** Bytes read at a time: a header and, where members are small, the next ones too. */
const WINDOW_BYTES = 16 * 1024;

/** One reader at a time. */
export class PositionedFile {
  private window: Buffer = Buffer.alloc(0);
  private windowStart = 0;

  private constructor(
    private readonly file: FileHandle,
    /** in bytes */
    readonly size: number,
  ) {}

  /** @throws Error from the operating system */
  static async open(path: string): Promise<PositionedFile> {
    const file = await open(path, "r");
    try {
      return new PositionedFile(file, (await file.stat()).size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** At most `length` bytes from `offset` on, fewer only at the end of the file. They hold until the next call. */
  async read(offset: number, length: number): Promise<Buffer> {
    const start = offset - this.windowStart;
    if (start >= 0 && start + length <= this.window.length) return this.window.subarray(start, start + length);
    const bytes = await readFully(this.file, offset, Math.max(length, WINDOW_BYTES));
    this.window = bytes;
    this.windowStart = offset;
    return bytes.subarray(0, length);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** @returns `length` bytes from `offset` on, fewer only at the end of the file @throws Error from the operating system */
export async function readRange(path: string, offset: number, length: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    return await readFully(file, offset, length);
  } finally {
    await file.close();
  }
}

/** One read may give fewer bytes than there are. */
async function readFully(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
