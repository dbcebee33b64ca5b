/** What must be on the machine before anything is installed, each named with the command that installs it on Debian. */
import { spawnSync } from "node:child_process";

/** Oldest Node: [major, minor]. yargs, vitest and ESLint ask for 20.19; vitest does not start on 20.9. */
export const OLDEST_NODE = /** @type {const} */ ([20, 19]);

/**
 * @typedef {object} Machine what was found
 * @property {string} node for example "20.11.0"
 * @property {string} platform `process.platform`
 * @property {string} arch `process.arch`
 * @property {string | undefined} glibc its version; undefined where the C library is another one
 * @property {boolean} python python3 runs
 * @property {boolean} pip `python3 -m pip` runs
 * @property {boolean} compiler a C++17 compiler runs
 */

/**
 * @param {Machine} machine
 * @returns {string[]} one line for each thing that is missing, with its remedy
 */
export function missing(machine) {
  const lines = platformProblems(machine);
  const apt = [];
  if (!machine.python) apt.push(["Python 3", "python3 python3-pip"]);
  else if (!machine.pip) apt.push(["pip (python3 -m pip)", "python3-pip"]);
  if (!machine.compiler) apt.push(["a C++17 compiler (g++)", "g++"]);
  for (const [what, packages] of apt) lines.push(`${what} is missing: sudo apt-get install -y ${packages}`);
  return lines;
}

/**
 * The part that costs no process, checked at every start.
 * @param {Pick<Machine, "node" | "platform" | "arch" | "glibc">} machine
 * @returns {string[]}
 */
export function platformProblems({ node, platform, arch, glibc }) {
  const lines = [];
  const [major = 0, minor = 0] = node.split(".").map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    lines.push(
      `Node ${node} is too old: Tandem needs ${OLDEST_NODE.join(".")} or newer, see https://nodejs.org/en/download`,
    );
  }
  if (platform !== "linux" || arch !== "x64") {
    lines.push(
      `${platform} ${arch} is not supported: TensorFlow's C++ library is published for x86-64 Linux; use such a machine or container`,
    );
  } else if (glibc === undefined) {
    lines.push(
      "this Linux has no glibc (Alpine?): TensorFlow's C++ library needs it; use Debian, Ubuntu or another glibc system",
    );
  }
  return lines;
}

/** @returns {Pick<Machine, "node" | "platform" | "arch" | "glibc">} */
export function thisPlatform() {
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport());
  return {
    node: process.versions.node,
    platform: process.platform,
    arch: process.arch,
    glibc: report.header.glibcVersionRuntime,
  };
}

/** @returns {Machine} */
export function thisMachine() {
  const runs = (/** @type {string} */ command, /** @type {string[]} */ args) =>
    spawnSync(command, args, { stdio: ["pipe", "ignore", "ignore"], input: "" }).status === 0;
  return {
    ...thisPlatform(),
    python: runs("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]),
    pip: runs("python3", ["-m", "pip", "--version"]),
    compiler: runs(compiler(), ["-std=c++17", "-x", "c++", "-fsyntax-only", "-"]),
  };
}

/** @returns {string} the C++ compiler: `CXX`, or g++ */
export function compiler() {
  return process.env.CXX || "g++";
}
