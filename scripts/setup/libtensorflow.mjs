/** libtensorflow out of the TensorFlow wheel, in a cache that outlives node_modules. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statfsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { readIfThere, sha256, sync, temporaryName, writeWhole } from "./files.mjs";
import { log, SetupError } from "./report.mjs";
import { runTool } from "./run-tool.mjs";

export const VERSION = "2.21.0";

/** The wheels' tags. They are fixed: nothing of Python's is used, so the user's own Python may be any version. */
const TAGS = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"].concat(
  ...["2_27", "2_25", "2_17", "2_12"].map((glibc) => ["--platform", `manylinux_${glibc}_x86_64`]),
  ...["manylinux2014", "manylinux2010"].map((name) => ["--platform", `${name}_x86_64`]),
);

/** Of the wheels: the two libraries and the C interface's headers with what these include. */
const PARTS = [
  "tensorflow/libtensorflow_cc.so.2",
  "tensorflow/libtensorflow_framework.so.2",
  "tensorflow/include/tensorflow/c/",
  "tensorflow/include/tensorflow/core/platform/",
  "tensorflow/include/tsl/platform/",
  "tensorflow/include/xla/tsl/c/",
  "nvidia/",
];

const LIBRARIES = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"];

/** Bytes that must be free, for the wheel and what comes out of it. */
const NEEDED_BYTES = { cpu: 1.5e9, gpu: 10e9 };

/** @param {NodeJS.ProcessEnv} env @returns {string} */
export function cacheFolder(env) {
  return env.TANDEM_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "tandem");
}

/** @param {NodeJS.ProcessEnv} env @param {import("./device.mjs").Flavour} flavour */
export function libtensorflowFolder(env, flavour) {
  return join(cacheFolder(env), `libtensorflow-${VERSION}-${flavour}`);
}

/** @param {import("./device.mjs").Flavour} flavour @returns {string[]} requirement lines with their hashes */
export function pinnedWheels(flavour) {
  const text = readFileSync(new URL(`wheels-${flavour}.txt`, import.meta.url), "utf8");
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

/**
 * @param {string} folder @param {import("./device.mjs").Flavour} flavour
 * @returns {string | null} why it must be fetched; null where it is there and whole
 */
export function libtensorflowPending(folder, flavour) {
  const record = readIfThere(join(folder, "contents.json"));
  if (record === null) return `no libtensorflow ${VERSION} (${flavour}) in the cache`;
  /** @type {{ pins: string, bytes: Record<string, number> }} */
  const { pins, bytes } = JSON.parse(record);
  if (pins !== sha256(...pinnedWheels(flavour))) return "its pinned wheels have changed";
  const damaged = LIBRARIES.find((name) => {
    const found = statSync(join(folder, "tensorflow", name), { throwIfNoEntry: false });
    return found?.size !== bytes[name];
  });
  return damaged === undefined ? null : `${damaged} in the cache is damaged`;
}

/**
 * Downloads, verifies and unpacks into a temporary folder; the last act is its renaming.
 * @param {string} folder @param {import("./device.mjs").Flavour} flavour @param {number} lock
 */
export async function fetchLibtensorflow(folder, flavour, lock) {
  const cache = join(folder, "..");
  mkdirSync(cache, { recursive: true });
  // We hold the lock: what is left of a set-up that was killed has no owner.
  for (const name of readdirSync(cache)) {
    if (name.endsWith(".partial")) rmSync(join(cache, name), { recursive: true, force: true });
  }
  const { bavail, bsize } = statfsSync(cache);
  if (bavail * bsize < NEEDED_BYTES[flavour]) {
    const gigabytes = (NEEDED_BYTES[flavour] / 1e9).toFixed(1);
    throw new SetupError(
      `${cache} needs ${gigabytes} GB free: make room, or set TANDEM_CACHE to a directory on another disk`,
    );
  }
  const temporary = temporaryName(folder);
  try {
    for (const requirement of pinnedWheels(flavour)) await fetchWheel(requirement, temporary, lock);
    const tensorflow = join(temporary, "tensorflow");
    const bytes = Object.fromEntries(LIBRARIES.map((name) => [name, statSync(join(tensorflow, name)).size]));
    writeWhole(join(temporary, "contents.json"), JSON.stringify({ pins: sha256(...pinnedWheels(flavour)), bytes }));
    if (existsSync(folder)) renameSync(folder, temporaryName(folder));
    renameSync(temporary, folder);
    sync(cache);
  } finally {
    for (const name of readdirSync(cache)) {
      if (name.endsWith(".partial")) rmSync(join(cache, name), { recursive: true, force: true });
    }
  }
}

/** @param {string} requirement name==version --hash=sha256:... @param {string} target @param {number} lock */
async function fetchWheel(requirement, target, lock) {
  const download = join(target, "download");
  mkdirSync(download, { recursive: true });
  const pins = join(download, "pins.txt");
  writeWhole(pins, requirement + "\n");
  log(`fetching ${requirement.split(" ")[0]}`);
  const pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:"];
  // pip refuses a wheel whose sha256 is not the pinned one. It downloads into TMPDIR first, which may be a small tmpfs.
  await runTool("python3", [...pip, ...TAGS, "--require-hashes", "-r", pins, "-d", download], {
    env: { ...process.env, TMPDIR: download, PIP_DISABLE_PIP_VERSION_CHECK: "1" },
    lock,
  });
  const wheel = readdirSync(download).find((name) => name.endsWith(".whl"));
  if (wheel === undefined) throw new Error(`pip ended well but left no wheel for ${requirement}`);
  const unpack = new URL("unpack.py", import.meta.url).pathname;
  await runTool("python3", [unpack, join(download, wheel), target, ...PARTS], { lock });
  rmSync(download, { recursive: true });
}
