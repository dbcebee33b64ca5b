/** Writing a tar whose bytes depend on its members alone: no dates, no owners. */
import { createHash } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";
import { Header } from "tar";

const BLOCK = 512;
/** Two empty blocks end an archive. */
const END_MARK = Buffer.alloc(2 * BLOCK);

/** What a finished archive is. */
export interface WrittenTar {
  /** in bytes */
  readonly bytes: number;
  /** hex */
  readonly sha256: string;
}

export class TarWriter {
  private readonly hash = createHash("sha256");
  private bytes = 0;

  private constructor(private readonly file: FileHandle) {}

  /** @throws Error from the operating system, also where the file exists */
  static async create(path: string): Promise<TarWriter> {
    return new TarWriter(await open(path, "wx"));
  }

  /** @param name at most 100 bytes, ASCII */
  async add(name: string, content: Uint8Array): Promise<void> {
    const header = Buffer.alloc(BLOCK);
    const isIncomplete = new Header({
      path: name,
      mode: 0o644,
      uid: 0,
      gid: 0,
      size: content.length,
      mtime: new Date(0),
      type: "File",
    }).encode(header, 0);
    if (isIncomplete) throw new RangeError(`"${name}" (${content.length} bytes) does not fit a ustar header`);
    await this.write(header);
    await this.write(content);
    await this.write(Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK));
  }

  /** Writes the end mark and syncs. */
  async finish(): Promise<WrittenTar> {
    await this.write(END_MARK);
    await this.file.sync();
    return { bytes: this.bytes, sha256: this.hash.digest("hex") };
  }

  close(): Promise<void> {
    return this.file.close();
  }

  private async write(content: Uint8Array): Promise<void> {
    this.hash.update(content);
    this.bytes += content.length;
    for (let rest = content; rest.length > 0;) {
      const { bytesWritten } = await this.file.write(rest);
      rest = rest.subarray(bytesWritten);
    }
  }
}
