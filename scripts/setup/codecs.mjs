/** The wire's codecs, generated from proto/. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, sha256, temporaryName, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";

const FOLDER = "src/protocol/generated";
const PBJS = "node_modules/protobufjs-cli/bin/pbjs";
const OPTIONS = [
  ...["-t", "static-module", "-w", "esm", "--es6", "--dts"],
  // What the wire does not use.
  ...["--no-create", "--no-verify", "--no-delimited", "--no-typeurl"],
];

/** @param {string} root @returns {string[]} paths of the .proto files, relative to root */
function protoFiles(root) {
  const folder = join(root, "proto");
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".proto"));
  return names.sort().map((name) => join("proto", name));
}

/** @param {string} root @param {readonly string[]} files */
function digest(root, files) {
  const generator = readIfThere(join(root, "node_modules/protobufjs-cli/package.json")) ?? "";
  return sha256(generator, ...OPTIONS, ...files.flatMap((file) => [file, readFileSync(join(root, file))]));
}

/** @param {string} root @returns {string | null} */
export function codecsPending(root) {
  const files = protoFiles(root);
  if (files.length === 0) return null;
  const there = ["wire.js", "wire.d.ts"].every((name) => existsSync(join(root, FOLDER, name)));
  return there && readIfThere(join(root, FOLDER, ".stamp")) === digest(root, files) ? null : "proto/ has changed";
}

/** @param {string} root @param {number} lock */
export async function generateCodecs(root, lock) {
  const files = protoFiles(root);
  const stamp = digest(root, files);
  const folder = join(root, FOLDER);
  mkdirSync(folder, { recursive: true });
  const temporary = temporaryName(join(folder, "new"));
  mkdirSync(temporary);
  await runTool(process.execPath, [PBJS, ...OPTIONS, "-o", join(temporary, "wire.js"), ...files], { cwd: root, lock });
  for (const name of ["wire.d.ts", "wire.js"]) renameSync(join(temporary, name), join(folder, name));
  rmSync(temporary, { recursive: true });
  writeWhole(join(folder, ".stamp"), stamp);
}
