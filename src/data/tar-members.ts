/**
 * Where the files of a tar lie, read from its headers alone: ustar, GNU (long names, sizes in base 256) and pax (POSIX.1-2001). Single
 * headers are decoded by npm's `tar`; its own reader would stream every byte and tells no offsets.
 */
import { Header } from "tar";
import type { PositionedFile } from "./positioned-file.js";

const BLOCK = 512;

/** A name or pax header longer than this is no name. */
const MOST_META_BYTES = 1 << 20;

export interface TarMember {
  /** as in the archive, without a leading `./` */
  readonly name: string;
  /** of its first byte in the archive */
  readonly offset: number;
  /** size in bytes */
  readonly bytes: number;
}

/** An archive that is cut short or no tar at all; the message says which, and where. */
export class TarError extends Error {
  override readonly name = "TarError";
}

/** What headers before a member say of it. */
interface Extension {
  readonly path?: string;
  readonly size?: number;
  readonly sparse?: boolean;
}

/**
 * The regular files of an archive in their order; folders, links and devices are left out, as WebDataset does.
 * @throws TarError where a header or a member's bytes are missing, or it is compressed, sparse or no tar
 */
export async function* tarMembers(file: PositionedFile): AsyncGenerator<TarMember> {
  let own: Extension = {};
  for (let position = 0; ;) {
    const block = await file.read(position, BLOCK);
    if (position === 0 && block[0] === 0x1f && block[1] === 0x8b) {
      throw new TarError("is compressed by gzip: unpack it with gunzip");
    }
    if (block.length < BLOCK) {
      throw new TarError(`is cut short: it ends without its end mark, after ${file.size} bytes`);
    }
    const header = new Header(block);
    if (header.nullBlock) return;
    if (!header.cksumValid || header.path === undefined || header.size === undefined) {
      throw new TarError(position === 0 ? "is no tar file" : `is damaged: no tar header at byte ${position}`);
    }
    const start = position + BLOCK;
    const { type } = header;
    const isMeta = META_TYPES.has(type);
    const size = isMeta ? header.size : BODILESS_TYPES.has(type) ? 0 : (own.size ?? header.size);
    const name = own.path ?? header.path;
    if (start + size > file.size) {
      throw new TarError(`is cut short: "${name}" goes to byte ${start + size}, and there are ${file.size}`);
    }
    position = start + Math.ceil(size / BLOCK) * BLOCK;
    if (isMeta) {
      if (size > MOST_META_BYTES) throw new TarError(`is no tar that is understood: a name of ${size} bytes`);
      const content = await file.read(start, size);
      if (type === "ExtendedHeader" || type === "OldExtendedHeader") own = { ...own, ...paxExtension(content) };
      if (type === "NextFileHasLongPath" || type === "OldGnuLongPath") own = { ...own, path: untilNul(content) };
      continue;
    }
    if (type === "SparseFile" || own.sparse === true) {
      throw new TarError(`holds the sparse file "${name}": write it without tar's --sparse`);
    }
    if (REGULAR_TYPES.has(type)) yield { name: name.replace(/^(\.\/+)+/, ""), offset: start, bytes: size };
    own = {};
  }
}

const REGULAR_TYPES: ReadonlySet<string> = new Set(["File", "OldFile", "ContiguousFile"]);
/** Headers that say something of the next member, or of all: a global one (as git writes it) has nothing that matters here. */
const META_TYPES: ReadonlySet<string> = new Set([
  "ExtendedHeader",
  "OldExtendedHeader",
  "GlobalExtendedHeader",
  "NextFileHasLongPath",
  "OldGnuLongPath",
  "NextFileHasLongLinkpath",
]);
/** No bytes follow their header, whatever size it gives. */
const BODILESS_TYPES: ReadonlySet<string> = new Set([
  "Directory",
  "Link",
  "SymbolicLink",
  "CharacterDevice",
  "BlockDevice",
  "FIFO",
]);

/** Records `LENGTH KEY=VALUE\n`, the length counting itself; a value may hold anything. */
function paxExtension(content: Buffer): Extension {
  let extension: Extension = {};
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(" ", at);
    const length = Number(content.toString("latin1", at, Math.max(space, at)));
    if (space < 0 || !Number.isInteger(length) || length <= 0 || at + length > content.length) break;
    const record = content.toString("utf8", space + 1, at + length - 1);
    const equals = record.indexOf("=");
    const [key, value] = [record.slice(0, equals), record.slice(equals + 1)];
    if (key === "path") extension = { ...extension, path: value };
    else if (key === "size") extension = { ...extension, size: Number(value) };
    else if (key.startsWith("GNU.sparse.")) extension = { ...extension, sparse: true };
    at += length;
  }
  return extension;
}

function untilNul(content: Buffer): string {
  const end = content.indexOf(0);
  return content.toString("utf8", 0, end < 0 ? content.length : end);
}
