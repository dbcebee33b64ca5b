/** Protobuf codecs, generated from proto/: the wire's, and those of TensorBoard's event files. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, sha256, temporaryName, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";

/** From the .proto files of one folder, one module: `<name>.js` and `<name>.d.ts`. */
const MODULES = [
  { protos: "proto", folder: "src/protocol/generated", name: "wire" },
  { protos: "proto/tensorboard", folder: "src/telemetry/generated", name: "tensorboard" },
];
const PBJS = "node_modules/protobufjs-cli/bin/pbjs";
const OPTIONS = [
  ...["-t", "static-module", "-w", "esm", "--es6", "--dts"],
  // What nobody here uses.
  ...["--no-create", "--no-verify", "--no-delimited", "--no-typeurl"],
];

/** @typedef {(typeof MODULES)[number]} Module */

/** @param {string} root @param {Module} module @returns {string[]} paths of its .proto files, relative to root */
function protoFiles(root, { protos }) {
  const folder = join(root, protos);
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".proto"));
  return names.sort().map((name) => join(protos, name));
}

/** @param {string} root @param {readonly string[]} files */
function digest(root, files) {
  const generator = readIfThere(join(root, "node_modules/protobufjs-cli/package.json")) ?? "";
  return sha256(generator, ...OPTIONS, ...files.flatMap((file) => [file, readFileSync(join(root, file))]));
}

/** @param {string} root @param {Module} module */
function isPending(root, module) {
  const files = protoFiles(root, module);
  if (files.length === 0) return false;
  const { folder, name } = module;
  const there = [`${name}.js`, `${name}.d.ts`].every((file) => existsSync(join(root, folder, file)));
  return !there || readIfThere(join(root, folder, ".stamp")) !== digest(root, files);
}

/** @param {string} root @returns {string | null} */
export function codecsPending(root) {
  return MODULES.some((module) => isPending(root, module)) ? "not made from proto/ as it is" : null;
}

/** @param {string} root @param {number} lock */
export async function generateCodecs(root, lock) {
  for (const module of MODULES) if (isPending(root, module)) await generate(root, module, lock);
}

/** @param {string} root @param {Module} module @param {number} lock */
async function generate(root, module, lock) {
  const files = protoFiles(root, module);
  const stamp = digest(root, files);
  const folder = join(root, module.folder);
  mkdirSync(folder, { recursive: true });
  const temporary = temporaryName(join(folder, "new"));
  mkdirSync(temporary);
  const target = join(temporary, `${module.name}.js`);
  await runTool(process.execPath, [PBJS, ...OPTIONS, "-r", module.name, "-o", target, ...files], { cwd: root, lock });
  for (const type of ["d.ts", "js"]) {
    const file = `${module.name}.${type}`;
    renameSync(join(temporary, file), join(folder, file));
  }
  rmSync(temporary, { recursive: true });
  writeWhole(join(folder, ".stamp"), stamp);
}
