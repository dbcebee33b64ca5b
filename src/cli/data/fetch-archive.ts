/** From a published archive to a folder: downloaded, verified, unpacked, and only then there. */
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { extract } from "tar";
import { UserError } from "../../protocol/errors.js";
import type { Archive } from "./archives.js";
import { download } from "./download.js";
import { refuseExisting, unwritable, withNewFolder } from "./new-folder.js";

export interface FetchOptions {
  readonly out: string;
  /** another place of the same archive: its URL, or that of its folder with a `/` at the end; null: the publisher's */
  readonly from: string | null;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number, total: number | null) => void;
}

/**
 * @returns the folder
 * @throws UserError `OUT_EXISTS`, `OUT_UNWRITABLE`, `FETCH_BAD_URL`, `FETCH_BAD_ARCHIVE`, and as `download`
 */
export async function fetchArchive(archive: Archive, { out, from, signal, onProgress }: FetchOptions): Promise<string> {
  const url = sourceOf(archive, from);
  const folder = join(out, archive.folder);
  await refuseExisting(folder);
  await mkdir(out, { recursive: true }).catch((error: unknown) => {
    throw unwritable(out, error);
  });
  const path = join(out, `${basename(new URL(archive.url).pathname)}.partial`);
  await download({ url, md5: archive.md5, path, signal, onProgress });
  await withNewFolder(folder, async (place) => {
    await extract({ file: path, cwd: place, strip: 1, strict: true }).catch((error: unknown) => {
      const refused = unwritable(folder, error);
      if (refused instanceof UserError) throw refused;
      throw new UserError("FETCH_BAD_ARCHIVE", `"${path}" cannot be unpacked: ${String(error)}`, { cause: error });
    });
    for (const [name, known] of Object.entries(archive.renames)) await rename(join(place, name), join(place, known));
  });
  await rm(path, { force: true });
  return folder;
}

function sourceOf(archive: Archive, from: string | null): string {
  if (from === null) return archive.url;
  const url = URL.canParse(from) ? new URL(from) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new UserError("FETCH_BAD_URL", `--from "${from}" is no http or https URL: write https://HOST/PATH`);
  }
  return url.pathname.endsWith("/") ? new URL(basename(new URL(archive.url).pathname), url).href : url.href;
}
