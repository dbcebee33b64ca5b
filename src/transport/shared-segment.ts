/**
 * Memory that processes on one machine share: a file in `/dev/shm` whose name is removed as soon as it is made, so that nothing is
 * left behind by a crash. Others open it as `/proc/PROCESS/fd/FILE` and map it. Who may write when is agreed on by messages.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readlinkSync,
  readSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { PAGE_BYTES, wholePages } from "../native/shared-pages.js";

const FOLDER = "/dev/shm";
/** What the system calls such a file once its name is gone: nobody is made to open, or to write, anything else. */
const NAMELESS = /^\/dev\/shm\/tandem-[0-9a-f]{32} \(deleted\)$/;
/** Shows that both ends see the same file, and not that of a process of the same number on another machine. */
const TOKEN_BYTES = 32;
/** The token has a page to itself, so what is shared begins on one. */
const HEAD_BYTES = PAGE_BYTES;
const ZEROS = new Uint8Array(1 << 20);

/** How another process finds the segment. */
export interface SegmentAddress {
  readonly process: number;
  /** descriptor there */
  readonly file: number;
  readonly token: Uint8Array;
}

export class SharedSegment {
  private constructor(
    /** its descriptor, by which another thread of this process gets at it */
    readonly file: number,
    readonly address: SegmentAddress,
    /** the file's size as far as it is known here, in bytes */
    private size: number,
  ) {}

  /**
   * @param size in bytes; they are claimed at once, so that no later write finds the memory full
   * @returns null where the system has no such memory, or too little
   */
  static create(size: number): SharedSegment | null {
    const path = join(FOLDER, `tandem-${randomBytes(16).toString("hex")}`);
    let file: number;
    try {
      file = openSync(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | constants.O_NOFOLLOW, 0o600);
      unlinkSync(path);
    } catch {
      return null;
    }
    const token = randomBytes(TOKEN_BYTES);
    const segment = new SharedSegment(file, { process: process.pid, file, token }, 0);
    if (segment.grow(HEAD_BYTES + size)) {
      transfer(writeSync, file, token, 0);
      return segment;
    }
    segment.close();
    return null;
  }

  /**
   * @param size least that it has, in bytes
   * @returns null where there is no such segment: its maker is on another machine or in another container, or another user's
   */
  static open({ process: maker, file: theirs, token }: SegmentAddress, size: number): SharedSegment | null {
    const path = `/proc/${String(maker)}/fd/${String(theirs)}`;
    let file: number;
    try {
      if (!NAMELESS.test(readlinkSync(path))) return null;
      file = openSync(path, constants.O_RDWR);
    } catch {
      return null;
    }
    const { size: bytes, uid } = fstatSync(file);
    const segment = new SharedSegment(file, { process: maker, file: theirs, token }, bytes);
    const found = new Uint8Array(TOKEN_BYTES);
    const isWhole = bytes >= segment.position(size) && token.length === TOKEN_BYTES && uid === process.getuid?.();
    if (isWhole) transfer(readSync, file, found, 0);
    if (isWhole && timingSafeEqual(found, token)) return segment;
    segment.close();
    return null;
  }

  /** A segment that another thread of this process has made or opened, and will close. */
  static ofFile(file: number, size: number): SharedSegment {
    return new SharedSegment(file, { process: process.pid, file, token: new Uint8Array(0) }, HEAD_BYTES + size);
  }

  /** Whether so many bytes are shared by now: its maker may have made it grow. */
  holds(bytes: number): boolean {
    return fstatSync(this.file).size >= this.position(bytes);
  }

  /** Byte in the file where what is shared at `at` lies: on a page where `at` is a multiple of one. */
  position(at: number): number {
    return HEAD_BYTES + at;
  }

  /** Claims more memory. @param bytes a multiple of a page's @returns false where there is too little: nothing has changed */
  grow(bytes: number): boolean {
    const before = this.size;
    if (!hasRoom(bytes)) return false;
    try {
      for (let done = 0; done < bytes; done += ZEROS.length) {
        transfer(writeSync, this.file, ZEROS.subarray(0, bytes - done), before + done);
      }
    } catch {
      ftruncateSync(this.file, before);
      return false;
    }
    this.size += bytes;
    return true;
  }

  /** @param at byte within what is shared */
  write(at: number, { buffer, byteOffset, byteLength }: Float32Array): void {
    if (this.position(at) + byteLength > this.size) throw new RangeError(`${String(at + byteLength)} bytes do not fit`);
    transfer(writeSync, this.file, new Uint8Array(buffer, byteOffset, byteLength), this.position(at));
  }

  /** Whoever has mapped it keeps it. */
  close(): void {
    closeSync(this.file);
  }
}

/** Whole pages for as many float32 values, in bytes. */
export function pagedBytes(length: number): number {
  return wholePages(Float32Array.BYTES_PER_ELEMENT * length);
}

/** Whether so many bytes may be shared: half of what is free at most, which others need too. */
export function hasRoom(size: number): boolean {
  try {
    const { bavail, bsize } = statfsSync(FOLDER);
    return size <= (bavail * bsize) / 2;
  } catch {
    return false;
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
