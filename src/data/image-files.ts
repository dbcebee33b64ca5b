/** Images that are files of a folder, one a sample. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { UserError } from "../protocol/errors.js";
import { CorruptSampleError, type FileSource } from "./dataset.js";
import { decodeSquare, squareAt } from "./decode.js";
import { fileErrorCode } from "./file-error.js";
import type { ListedFile } from "./folder-listing.js";

/** Image files below a folder, as they were listed. */
export class ImageFiles implements FileSource {
  readonly length: number;
  readonly labels: Int32Array;

  constructor(
    private readonly root: string,
    private readonly files: readonly ListedFile[],
    private readonly decodeSize: number,
  ) {
    this.length = files.length;
    this.labels = Int32Array.from(files, (file) => file.label);
  }

  /** Relative to the data set's root, so that workers with other mount points give the same name. */
  nameOf(index: number): string {
    return this.files[index].name;
  }

  /**
   * @throws CorruptSampleError where the bytes are no whole picture: the same on every worker
   * @throws UserError `DATA_UNREADABLE` where the file cannot be read at all: a fault of this machine, which nothing may replace
   */
  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const bytes = await this.encoded(index);
    try {
      await decodeSquare(bytes, this.decodeSize, squareAt(target, offset, this.decodeSize));
    } catch (cause) {
      throw new CorruptSampleError(this.nameOf(index), { cause });
    }
  }

  encoded(index: number): Promise<Uint8Array> {
    const path = this.pathOf(index);
    return readFile(path).catch((cause: unknown) => {
      throw new UserError(
        "DATA_UNREADABLE",
        `image "${path}" cannot be read (${fileErrorCode(cause)}): is the folder still mounted?`,
        { cause },
      );
    });
  }

  private pathOf(index: number): string {
    return resolve(this.root, this.nameOf(index));
  }
}
