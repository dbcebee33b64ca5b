/**
 * Set-up: from a fresh clone to a built Tandem. Each step says whether it is due and is skipped where it is not; each
 * leaves its result whole or not at all, so set-up may be killed at any time and simply be run again.
 */
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { bindingPending, buildBinding } from "./setup/binding.mjs";
import { build, buildPending } from "./setup/build.mjs";
import { codecsPending, generateCodecs } from "./setup/codecs.mjs";
import { buildKernels, kernelsPending } from "./setup/kernels.mjs";
import { chooseFlavour, hasNvidiaDriver } from "./setup/device.mjs";
import {
  cacheFolder,
  fetchLibtensorflow,
  libtensorflowFolder,
  libtensorflowPending,
  VERSION,
} from "./setup/libtensorflow.mjs";
import { takeLock } from "./setup/lock.mjs";
import { installPackages, packagesPending } from "./setup/packages.mjs";
import { elapsed, log, SetupError, ToolFailure } from "./setup/report.mjs";
import { missing, platformProblems, thisMachine, thisPlatform } from "./setup/toolchain.mjs";

const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {() => string | null} pending why it is due; null where it is not
 * @property {(lock: number) => Promise<void>} run
 * @property {string} lock the file that keeps others out meanwhile
 */

/** @returns {Step[]} */
function steps() {
  const flavour = chooseFlavour(process.env.TANDEM_DEVICE, hasNvidiaDriver(process.env));
  const engine = libtensorflowFolder(process.env, flavour);
  const here = join(root, "dist/.lock");
  const cache = join(cacheFolder(process.env), ".lock");
  return [
    {
      name: "npm packages",
      pending: () => packagesPending(root),
      run: (lock) => installPackages(root, lock),
      lock: here,
    },
    {
      name: `libtensorflow ${VERSION} (${flavour})`,
      pending: () => libtensorflowPending(engine, flavour),
      run: (lock) => fetchLibtensorflow(engine, flavour, lock),
      lock: cache,
    },
    {
      name: "native addons",
      pending: () => bindingPending(root, engine),
      run: (lock) => buildBinding(root, engine, lock),
      lock: here,
    },
    {
      name: "protobuf codecs",
      pending: () => codecsPending(root),
      run: (lock) => generateCodecs(root, lock),
      lock: here,
    },
    {
      name: "vector kernels",
      pending: () => kernelsPending(root),
      run: (lock) => buildKernels(root, lock),
      lock: here,
    },
    { name: "build", pending: () => buildPending(root), run: (lock) => build(root, lock), lock: here },
  ];
}

async function setUp() {
  const start = performance.now();
  refuse(platformProblems(thisPlatform()));
  const all = steps();
  let checked = false;
  let done = 0;
  for (const step of all) {
    if (step.pending() === null) continue;
    if (!checked) refuse(missing(thisMachine()));
    checked = true;
    const lock = takeLock(step.lock);
    try {
      // Whoever held the lock may have done it.
      const reason = step.pending();
      if (reason === null) continue;
      const began = performance.now();
      log(`${step.name}: ${reason} ...`);
      await step.run(lock.fd);
      log(`${step.name}: done in ${elapsed(began)}`);
      done += 1;
    } finally {
      lock.release();
    }
  }
  log(`ready in ${elapsed(start)}: ${done === 0 ? "nothing to do" : `${done} of ${all.length} steps were due`}`);
}

/** @param {readonly string[]} problems */
function refuse(problems) {
  if (problems.length > 0) throw new SetupError(problems.join("\n"));
}

try {
  await setUp();
} catch (error) {
  if (error instanceof SetupError) {
    for (const line of error.message.split("\n")) process.stderr.write(`[set-up] ${line}\n`);
    process.exitCode = 2;
  } else if (error instanceof ToolFailure) {
    process.stderr.write(
      `${error.output}\n[set-up] ${error.message}. Once that is put right, run the same command again.\n`,
    );
    process.exitCode = 1;
  } else throw error;
}
