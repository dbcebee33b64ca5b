/** The vector kernels: AssemblyScript to WebAssembly with SIMD over a shared memory. */
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, sha256, temporaryName, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";

const SOURCE = "src/optim/assembly/kernels.ts";
const FOLDER = "src/optim/generated";
const ASC = "node_modules/assemblyscript/bin/asc.js";
const OPTIONS = [
  ...["--optimizeLevel", "3", "--runtime", "stub", "--noAssert", "--enable", "simd", "--enable", "threads"],
  // The arena brings the memory along; 65,536 pages are all that 32-bit addresses reach.
  ...["--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"],
];

/** @param {string} root */
function digest(root) {
  const compiler = readIfThere(join(root, "node_modules/assemblyscript/package.json")) ?? "";
  return sha256(compiler, ...OPTIONS, readFileSync(join(root, SOURCE)));
}

/** @param {string} root @returns {string | null} */
export function kernelsPending(root) {
  const there = existsSync(join(root, FOLDER, "kernels.wasm"));
  return there && readIfThere(join(root, FOLDER, ".stamp")) === digest(root)
    ? null
    : "not made from their source as it is";
}

/** @param {string} root @param {number} lock */
export async function buildKernels(root, lock) {
  const stamp = digest(root);
  const target = join(root, FOLDER, "kernels.wasm");
  mkdirSync(join(root, FOLDER), { recursive: true });
  const temporary = temporaryName(target);
  await runTool(process.execPath, [ASC, SOURCE, ...OPTIONS, "-o", temporary], { cwd: root, lock });
  renameSync(temporary, target);
  writeWhole(join(root, FOLDER, ".stamp"), stamp);
}
