/** Archives by the system's own `tar`: an independent writer. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Names and contents, in the order in which they go into the archive. */
export type Files = readonly (readonly [name: string, content: Uint8Array | string])[];

/** Writes `files` into the archive `path`. */
export function writeTar(path: string, files: Files, format = "gnu"): string {
  const folder = mkdtempSync(join(tmpdir(), "tandem-tar-"));
  for (const [name, content] of files) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  mkdirSync(dirname(path), { recursive: true });
  const names = files.map(([name]) => name);
  execFileSync("tar", [`--format=${format}`, "--remove-files", "-cf", path, "-C", folder, "--", ...names]);
  return path;
}
