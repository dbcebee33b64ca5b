/**
 * Memory that two processes on one machine share: a file in `/dev/shm`, written and read by ordinary calls, each one copy
 * (8 GB/s, measured), where loopback TCP makes four. Whoever holds both ends agrees by messages on who may write when.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

const FOLDER = "/dev/shm";
const NAME = /^tandem-[0-9a-f]{32}$/;
/** Shows that both ends see the same file, and not two of the same name on two machines. */
const TOKEN_BYTES = 32;
/** Values begin on a page. */
const HEAD_BYTES = 4096;
/** How long a handshake may take, weights included, in ms. */
const NAMED_MS = 30 * 60_000;
const ZEROS = new Uint8Array(1 << 20);

/** How the other process finds the segment. */
export interface SegmentAddress {
  readonly name: string;
  readonly token: Uint8Array;
}

export class SharedSegment {
  private constructor(
    /** its descriptor, by which another thread of this process gets at it */
    readonly file: number,
    readonly address: SegmentAddress,
    private readonly size: number,
  ) {}

  /**
   * @param size in bytes; they are claimed at once, so that no later write finds the memory full
   * @returns null where the system has no such memory, or too little
   */
  static create(size: number): SharedSegment | null {
    sweep();
    if (!hasRoom(size)) return null;
    const name = `tandem-${randomBytes(16).toString("hex")}`;
    const path = join(FOLDER, name);
    let file: number;
    try {
      file = openSync(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | constants.O_NOFOLLOW, 0o600);
    } catch {
      return null;
    }
    const segment = new SharedSegment(file, { name, token: randomBytes(TOKEN_BYTES) }, size);
    try {
      transfer(writeSync, file, segment.address.token, 0);
      for (let at = TOKEN_BYTES; at < HEAD_BYTES + size; at += ZEROS.length) {
        transfer(writeSync, file, ZEROS.subarray(0, HEAD_BYTES + size - at), at);
      }
      return segment;
    } catch {
      segment.unlink();
      segment.close();
      return null;
    }
  }

  /**
   * @param size in bytes, which both ends know
   * @returns null where there is no such segment: its maker is on another machine, or in another container
   */
  static open({ name, token }: SegmentAddress, size: number): SharedSegment | null {
    if (!NAME.test(name) || token.length !== TOKEN_BYTES) return null;
    let file: number;
    try {
      file = openSync(join(FOLDER, name), constants.O_RDWR | constants.O_NOFOLLOW);
    } catch {
      return null;
    }
    const segment = new SharedSegment(file, { name, token }, size);
    const found = new Uint8Array(TOKEN_BYTES);
    const { size: bytes, uid } = fstatSync(file);
    const isWhole = bytes >= HEAD_BYTES + size && uid === process.getuid?.();
    if (isWhole) transfer(readSync, file, found, 0);
    if (isWhole && timingSafeEqual(found, token)) return segment;
    segment.close();
    return null;
  }

  /** A segment that another thread of this process has made or opened, and will close. */
  static ofFile(file: number, size: number): SharedSegment {
    return new SharedSegment(file, { name: "", token: new Uint8Array(0) }, size);
  }

  /** @param at byte within the segment, where the vectors begin, one after another */
  write(at: number, ...vectors: readonly Float32Array[]): void {
    this.each(writeSync, at, vectors);
  }

  read(at: number, ...vectors: readonly Float32Array[]): void {
    this.each(readSync, at, vectors);
  }

  /** Takes the name away. Who has it open keeps it, and nothing is left behind when both have closed it, or died. */
  unlink(): void {
    try {
      unlinkSync(join(FOLDER, this.address.name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }

  close(): void {
    closeSync(this.file);
  }

  private each(call: Transfer, start: number, vectors: readonly Float32Array[]): void {
    let at = start;
    for (const { buffer, byteOffset, byteLength } of vectors) {
      if (at + byteLength > this.size) throw new RangeError(`${String(at + byteLength)} bytes do not fit`);
      transfer(call, this.file, new Uint8Array(buffer, byteOffset, byteLength), HEAD_BYTES + at);
      at += byteLength;
    }
  }
}

/** Half of what is free at most, which others need too. */
function hasRoom(size: number): boolean {
  try {
    const { bavail, bsize } = statfsSync(FOLDER);
    return HEAD_BYTES + size <= (bavail * bsize) / 2;
  } catch {
    return false;
  }
}

/** A process that died during a handshake has left its segment's name, and with it the memory: names are short-lived. */
function sweep(): void {
  try {
    for (const name of readdirSync(FOLDER).filter((entry) => NAME.test(entry))) {
      const path = join(FOLDER, name);
      const { mtimeMs, uid } = lstatSync(path);
      if (uid === process.getuid?.() && Date.now() - mtimeMs > NAMED_MS) unlinkSync(path);
    }
  } catch {
    // No such folder, or somebody else was faster.
  }
}

type Transfer = (file: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

function transfer(call: Transfer, file: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const moved = call(file, bytes, done, bytes.length - done, position + done);
    if (moved === 0) throw new Error("a shared segment is shorter than its address says");
    done += moved;
  }
}
