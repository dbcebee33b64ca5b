/** npm's packages, exactly as the lockfile says. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, sha256, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";

const STAMP = "node_modules/.tandem-packages";

/** @param {string} root @returns {string | null} why `npm ci` is due; null where it is not */
export function packagesPending(root) {
  const lockfile = readIfThere(join(root, "package-lock.json")) ?? "";
  if (!existsSync(join(root, "node_modules"))) return "node_modules is missing";
  if (readIfThere(join(root, STAMP)) === sha256(lockfile)) return null;
  // npm writes its own record at the very end of an installation: whoever ran `npm ci` by hand is spared a second one.
  const installed = readIfThere(join(root, "node_modules/.package-lock.json"));
  if (installed !== null && holdsAll(JSON.parse(lockfile), JSON.parse(installed))) {
    writeWhole(join(root, STAMP), sha256(lockfile));
    return null;
  }
  return "node_modules differs from package-lock.json";
}

/**
 * @typedef {{ packages: Record<string, { version?: string, integrity?: string, optional?: boolean }> }} Lockfile
 * @param {Lockfile} wanted @param {Lockfile} installed
 * @returns {boolean} whether each package is there in its version; those for other platforms may be absent
 */
export function holdsAll(wanted, installed) {
  const extra = Object.keys(installed.packages).some((path) => !(path in wanted.packages));
  return (
    !extra &&
    Object.entries(wanted.packages).every(([path, { version, integrity, optional }]) => {
      if (path === "") return true;
      const found = installed.packages[path];
      if (found === undefined) return optional === true;
      return found.version === version && (integrity === undefined || found.integrity === integrity);
    })
  );
}

/** @param {string} root @param {number} lock */
export async function installPackages(root, lock) {
  rmSync(join(root, STAMP), { force: true });
  // Development's packages too, whatever NODE_ENV says: the build needs TypeScript.
  await runTool("npm", ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: root, lock });
  writeWhole(join(root, STAMP), sha256(readIfThere(join(root, "package-lock.json")) ?? ""));
}
