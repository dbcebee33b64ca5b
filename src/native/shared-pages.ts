/** Pages of a file in the place of an array's. */
import { loadAddon } from "./addon.js";

/** shared-pages.cc */
interface Addon {
  /**
   * @param place whole pages; what was there is gone
   * @param file descriptor; −1: fresh pages of this process alone
   * @param position byte in the file, a multiple of a page's
   */
  putPages(place: Uint8Array, file: number, position: number): void;
}

export const PAGE_BYTES = 4096;

/** Bytes of as many pages as hold so many. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

let loaded: Addon | null = null;

/** Read when first called: most processes share nothing. */
export const putPages: Addon["putPages"] = (place, file, position) => {
  loaded ??= loadAddon<Addon>("shared-pages");
  loaded.putPages(place, file, position);
};
