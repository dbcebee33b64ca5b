/** Pages of a file in the place of an array's: src/optim/native/shared-pages.cc. */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

interface Addon {
  putPages(place: Uint8Array, file: number, position: number): void;
}

let addon: Addon | null = null;

/**
 * @param place whole pages; what was there is gone
 * @param file descriptor; −1: fresh pages of this process alone
 * @param position byte in the file, a multiple of 4096
 */
export function putPages(place: Uint8Array, file: number, position: number): void {
  if (addon === null) {
    const require = createRequire(import.meta.url);
    const folder = dirname(require.resolve("@tensorflow/tfjs-node-gpu/package.json"));
    addon = require(join(folder, "lib/napi-v8/shared_pages.node")) as Addon;
  }
  addon.putPages(place, file, position);
}
