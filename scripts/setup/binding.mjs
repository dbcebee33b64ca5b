/** The native code: tfjs-node's binding, Tandem's decoder of JPEGs and its shared pages. Links to libtensorflow, and a g++ call each. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { linkTo, readIfThere, sha256, sync, temporaryName, writeWhole } from "./files.mjs";
import { runTool } from "./run-tool.mjs";
import { compiler } from "./toolchain.mjs";

const PACKAGE = "node_modules/@tensorflow/tfjs-node-gpu";
/** What runs when one with libtensorflow is loaded. */
const DEFAULTS = new URL("native-defaults.cc", import.meta.url).pathname;
/** @param {string} name of a source of Tandem's */
const ours = (name) => new URL(`../../src/native/${name}`, import.meta.url).pathname;

/**
 * Where each addon goes, and what it is made of. Node-API 8 keeps its binary interface: one build serves every Node from 16 on, and
 * needs no headers of Node's own.
 */
const ADDONS = {
  "lib/napi-v8/tfjs_binding.node": ["binding/tfjs_backend.cc", "binding/tfjs_binding.cc", DEFAULTS],
  "lib/napi-v8/hand-over.node": [ours("hand-over.cc"), DEFAULTS],
  "lib/napi-v8/jpeg-square.node": [ours("jpeg-square.cc"), DEFAULTS],
  "lib/napi-v8/let-go.node": [ours("let-go.cc")],
  "lib/napi-v8/shared-pages.node": [ours("shared-pages.cc")],
};
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

const LIBRARIES = ["-Ldeps/lib", "-Wl,-rpath,$ORIGIN/../../deps/lib", "-ltensorflow", "-ltensorflow_framework"];

/** @param {readonly string[]} sources @param {string} output */
const flags = (sources, output) => [
  ...["-O2", "-std=c++17", "-shared", "-fPIC", "-DNAPI_VERSION=8"],
  ...["-I../../node-api-headers/include", "-I.", "-Ideps/include"],
  ...sources,
  // Ours before the libraries' own initialisers, which log already.
  "-Wl,-z,initfirst",
  // A thread of Node's that ends would take the code from under those that it has started.
  "-Wl,-z,nodelete",
  ...(sources.includes(DEFAULTS) ? LIBRARIES : []),
  ...["-o", output],
];

/** @param {string} folder the package's */
function digest(folder) {
  const headers = readdirSync(join(folder, "binding"))
    .filter((name) => name.endsWith(".h"))
    .sort()
    .map((name) => join("binding", name));
  const parts = Object.entries(ADDONS).flatMap(([addon, sources]) => [
    ...flags(sources, addon),
    ...read(folder, sources),
  ]);
  return sha256(...parts, ...read(folder, headers));
}

/** @param {string} folder @param {readonly string[]} names */
const read = (folder, names) => names.map((name) => readFileSync(resolve(folder, name)));

/**
 * @param {string} root @param {string} libtensorflow the cached folder
 * @returns {string | null}
 */
export function bindingPending(root, libtensorflow) {
  const folder = join(root, PACKAGE);
  if (!Object.keys(ADDONS).every((addon) => existsSync(join(folder, addon)))) return "not built yet";
  if (readIfThere(join(folder, STAMP)) !== stampFor(folder, libtensorflow))
    return "built for another libtensorflow, or of other sources";
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
  for (const [name, sources] of Object.entries(ADDONS)) {
    const addon = join(folder, name);
    mkdirSync(dirname(addon), { recursive: true });
    for (const left of readdirSync(dirname(addon))) {
      if (left.endsWith(".partial")) rmSync(join(dirname(addon), left));
    }
    const temporary = temporaryName(addon);
    await runTool(compiler(), flags(sources, temporary), { cwd: folder, lock });
    sync(temporary);
    renameSync(temporary, addon);
  }
  writeWhole(join(folder, STAMP), stampFor(folder, libtensorflow));
}
