/** Pages of a file in the place of an array's. */
import { loadAddon } from "../native/addon.js";

/** src/native/shared-pages.cc */
interface Addon {
  /**
   * @param place whole pages; what was there is gone
   * @param file descriptor; −1: fresh pages of this process alone
   * @param position byte in the file, a multiple of 4096
   */
  putPages(place: Uint8Array, file: number, position: number): void;
}

let loaded: Addon | null = null;

/** Read when first called: most processes share nothing. */
export const putPages: Addon["putPages"] = (place, file, position) => {
  loaded ??= loadAddon<Addon>("shared-pages");
  loaded.putPages(place, file, position);
};
