/** Tandem's native code, which set-up builds beside tfjs-node's binding (`scripts/setup/binding.mjs`). */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/**
 * @param name of a source in this folder, without its end
 * @returns what it exports
 */
export function loadAddon<Addon>(name: "hand-over" | "jpeg-square" | "let-go" | "shared-pages"): Addon {
  const require = createRequire(import.meta.url);
  const folder = dirname(require.resolve("@tensorflow/tfjs-node-gpu/package.json"));
  return require(join(folder, `lib/napi-v8/${name}.node`)) as Addon;
}
