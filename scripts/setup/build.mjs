/** TypeScript to dist/. */
import { cpSync, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, sha256, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";

const SOURCES = ["src", "coordinator", "worker", "tests"];
const STAMP = "dist/.stamp";
/** What the steps before made, beside its sources. */
const GENERATED = ["src/protocol/generated", "src/telemetry/generated", "src/optim/generated"];

/** Of every source its name, size and time: one that is new, changed or gone changes it. @param {string} root */
function digest(root) {
  const lines = ["tsconfig.json", "package-lock.json"].map((name) => line(root, name));
  for (const folder of SOURCES) {
    if (!existsSync(join(root, folder))) continue;
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && /\.(ts|js|wasm)$/.test(entry.name))
        lines.push(line(root, join(entry.parentPath ?? entry.path, entry.name)));
    }
  }
  return sha256(...lines.sort());
}

/** @param {string} root @param {string} name */
function line(root, name) {
  const path = name.startsWith(root) ? name : join(root, name);
  const found = statSync(path, { throwIfNoEntry: false });
  return `${path.slice(root.length)} ${found?.size} ${found?.mtimeMs}`;
}

/** @param {string} root @returns {string | null} */
export function buildPending(root) {
  return readIfThere(join(root, STAMP)) === digest(root) ? null : "not made from the sources as they are";
}

/** @param {string} root @param {number} lock */
export async function build(root, lock) {
  const stamp = digest(root);
  await runTool(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { cwd: root, lock });
  // tsc leaves .js and .wasm files where they are.
  const runs = (/** @type {string} */ path) => !path.endsWith(".d.ts") && !path.endsWith(".stamp");
  for (const folder of GENERATED) {
    if (existsSync(join(root, folder))) {
      cpSync(join(root, folder), join(root, "dist", folder), { recursive: true, filter: runs });
    }
  }
  writeWhole(join(root, STAMP), stamp);
}
