/** A run whose ranks compute nothing (engine.mode = synthetic): a coordinator's process and workers' on this machine. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));
const CROWD = fileURLToPath(new URL("worker-crowd.mjs", import.meta.url));
/**
 * Messages lie outside of V8's heap, which is small: by its own measure it would collect all of it for every 8 MB of them, which
 * is a third of what a crowd does; and threads that help to collect take the cores from what is measured.
 */
const CROWD_FLAGS = ["--initial-old-space-size=512", "--single-threaded-gc"];

/** @param {string[]} args */
function start(args) {
  return spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
}

/**
 * @param {object} of
 * @param {number} of.workers as many as the run has ranks
 * @param {number | string} of.steps
 * @param {string[]} of.flags of `tandem coordinator`
 * @param {number} [of.processes] that the workers share evenly; if it is not said, each has its own, which is `tandem worker`
 * @param {(index: number) => string[]} [of.workerFlags] where each has its own
 * @param {() => (() => void)} [of.begun] called once the coordinator listens; what it returns is called at the end
 * @returns {Promise<Record<string, any>[]>} the run's events
 */
export async function syntheticRun({
  workers,
  steps,
  flags,
  processes = workers,
  workerFlags = () => [],
  begun = () => () => undefined,
}) {
  if (workers % processes !== 0) throw new Error(`${workers} workers cannot share ${processes} processes evenly`);
  const folder = mkdtempSync(join(tmpdir(), "tandem-synthetic-"));
  const out = join(folder, "run");
  const config = ["--preset", "quickstart", "--batch", "2", "--set", "moco.queueSize=1024", "--steps", `${steps}`];
  const synthetic = ["--set", "engine.mode=synthetic", "--set", "engine.synthetic.parameters=10000"];
  const whole = ["--world-size", `${workers}`, "--set", `membership.minWorkers=${workers}`];
  const quiet = ["--set", "evaluation.everyEpochs=0", "--set", "checkpoint.everySteps=0"];
  const where = ["--listen", "tcp://127.0.0.1:*", "--out", out];
  const run = start([PROGRAM, "coordinator", ...config, ...synthetic, ...whole, ...quiet, ...flags, ...where]);
  let stderr = "";
  const address = new Promise((resolve) => {
    run.stderr.on("data", (bytes) => {
      stderr += bytes;
      const found = /listening at (tcp:\S+)/.exec(stderr)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
  const ended = once(run, "close");
  const members = [run];
  try {
    const connect = await Promise.race([address, ended.then(() => Promise.reject(new Error(stderr)))]);
    for (let index = 0; index < processes; index++) {
      const worker = start(
        processes < workers
          ? [...CROWD_FLAGS, CROWD, connect, `${workers / processes}`]
          : [PROGRAM, "worker", "--connect", connect, "--device", "cpu", ...workerFlags(index)],
      );
      worker.stderr.resume();
      members.push(worker);
    }
    const stop = begun();
    const [code] = await ended;
    stop();
    if (code !== 0) throw new Error(stderr);
    await Promise.all(members.map((member) => member.exitCode ?? once(member, "close")));
  } finally {
    for (const member of members) if (member.exitCode === null) member.kill("SIGKILL");
  }
  const lines = readFileSync(join(out, "events.jsonl"), "utf8").trim().split("\n");
  rmSync(folder, { recursive: true });
  return lines.map((line) => JSON.parse(line));
}

/** Share of the steps that are not counted: processes warm up. */
const WARMUP = 0.25;

/** @param {Record<string, any>[]} events @returns {number} ms from one step's end to the next one's, on average */
export function stepTime(events) {
  const done = events.filter(({ kind }) => kind === "step");
  const counted = done.slice(Math.floor(WARMUP * done.length));
  return (Date.parse(counted.at(-1)?.time) - Date.parse(counted[0]?.time)) / (counted.length - 1);
}
