/** tfjs-node's native binding: links to libtensorflow, and one g++ call. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { linkTo, readIfThere, sha256, sync, temporaryName, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";
import { compiler } from "./toolchain.mjs";

const PACKAGE = "node_modules/@tensorflow/tfjs-node-gpu";
/** tfjs-node's own, and what runs when they are loaded. */
const SOURCES = ["binding/tfjs_backend.cc", "binding/tfjs_binding.cc"];
const DEFAULTS = new URL("native-defaults.cc", import.meta.url).pathname;

/** Node-API 8 keeps its binary interface: one build serves every Node from 16 on, and needs no headers of Node's own. */
const ADDON = "lib/napi-v8/tfjs_binding.node";
const STAMP = "lib/napi-v8/tfjs_binding.stamp";

/** Path below deps/ → path below the cached folder. */
const LINKS = {
  include: "tensorflow/include",
  "lib/libtensorflow.so": "tensorflow/libtensorflow_cc.so.2",
  "lib/libtensorflow_cc.so.2": "tensorflow/libtensorflow_cc.so.2",
  "lib/libtensorflow_framework.so": "tensorflow/libtensorflow_framework.so.2",
  "lib/libtensorflow_framework.so.2": "tensorflow/libtensorflow_framework.so.2",
  // The CUDA libraries are searched in ../nvidia/*/lib, as seen from lib/.
  nvidia: "nvidia",
};

/** @param {string} output */
const flags = (output) => [
  ...["-O2", "-std=c++17", "-shared", "-fPIC", "-DNAPI_VERSION=8"],
  ...["-I../../node-api-headers/include", "-I.", "-Ideps/include"],
  ...SOURCES,
  DEFAULTS,
  // Ours before the libraries' own initialisers, which log already.
  "-Wl,-z,initfirst",
  ...["-Ldeps/lib", "-Wl,-rpath,$ORIGIN/../../deps/lib", "-ltensorflow", "-ltensorflow_framework", "-o", output],
];

/** @param {string} folder the package's */
function digest(folder) {
  const files = readdirSync(join(folder, "binding")).sort();
  const sources = files.map((name) => readFileSync(join(folder, "binding", name)));
  return sha256(...flags(ADDON), readFileSync(DEFAULTS), ...sources);
}

/**
 * @param {string} root @param {string} libtensorflow the cached folder
 * @returns {string | null}
 */
export function bindingPending(root, libtensorflow) {
  const folder = join(root, PACKAGE);
  if (!existsSync(join(folder, ADDON))) return "not built yet";
  if (readIfThere(join(folder, STAMP)) !== stampFor(folder, libtensorflow))
    return "built for another libtensorflow or package version";
  return Object.keys(LINKS).every((name) => name === "nvidia" || existsSync(join(folder, "deps", name)))
    ? null
    : "a link is broken";
}

/** @param {string} folder @param {string} libtensorflow */
function stampFor(folder, libtensorflow) {
  return `${digest(folder)} ${libtensorflow}\n`;
}

/** @param {string} root @param {string} libtensorflow @param {number} lock */
export async function buildBinding(root, libtensorflow, lock) {
  const folder = join(root, PACKAGE);
  rmSync(join(folder, STAMP), { force: true });
  for (const [name, target] of Object.entries(LINKS)) {
    const path = join(folder, "deps", name);
    if (existsSync(join(libtensorflow, target))) linkTo(path, join(libtensorflow, target));
    else rmSync(path, { force: true });
  }
  const addon = join(folder, ADDON);
  mkdirSync(dirname(addon), { recursive: true });
  for (const name of readdirSync(dirname(addon))) {
    if (name.endsWith(".partial")) rmSync(join(dirname(addon), name));
  }
  const temporary = temporaryName(addon);
  await runTool(compiler(), flags(temporary), { cwd: folder, lock });
  sync(temporary);
  renameSync(temporary, addon);
  writeWhole(join(folder, STAMP), stampFor(folder, libtensorflow));
}
