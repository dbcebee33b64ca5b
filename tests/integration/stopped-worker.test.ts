/**
 * A worker that is stopped amid a run, whose weights come over the network: what that costs the coordinator's memory is bounded, the run
 * goes on, and the worker catches up, or is cut off. `STOPPED_SECONDS=30` makes it half a minute.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { checkpointOf, stepsOf, PROGRAM, SMALL_RUN, tandem, temporaryFolder } from "../e2e/tandem.js";
import { freePorts } from "../e2e/chaos.js";
import { residentBytes } from "./fuzz/mutation.js";

const SECONDS = Number(process.env["STOPPED_SECONDS"] ?? 4);
/** Whether this user may mount a file system for a process of his own. */
const mayMount = spawnSync("unshare", ["-rm", "true"]).status === 0;
/** vit-tiny's, whose vectors are large beside what a process's heap breathes by */
const PARAMETERS = 5_400_000;
/** θq, θk and SGD's momentum, of the version that the worker has on its way and that is not used again meanwhile */
const STATE_BYTES = 12 * PARAMETERS;
const HEAP_BYTES = 60 * 1024 * 1024;
const folder = temporaryFolder();
const started: ChildProcess[] = [];
afterAll(() => {
  for (const child of started) child.kill("SIGKILL");
});

/** With so little of /dev/shm that nothing is shared. */
function startApart(args: readonly string[]) {
  const mount = 'mount -t tmpfs -o size=16k tmpfs /dev/shm && exec "$@"';
  const command = ["-rm", "sh", "-c", mount, "sh", process.execPath, PROGRAM, ...args];
  const child = spawn("unshare", command, { stdio: ["ignore", "ignore", "pipe"] });
  started.push(child);
  let stderr = "";
  child.stderr.on("data", (bytes) => (stderr += String(bytes)));
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  return { child, ended, stderr: () => stderr };
}

it.skipIf(!mayMount)(
  `a worker that is stopped for ${SECONDS} s costs the coordinator one state, and the run no bit`,
  { timeout: 600_000 },
  async () => {
    const flags = [
      ...[...SMALL_RUN, "--encoder", "vit-tiny", "--set", "model.patchSize=4", "--steps", String(16 + 3 * SECONDS)],
      ...["--set", "membership.minWorkers=3", "--set", "membership.deadAfterMs=120000"],
    ];
    const calm = join(folder, "calm");
    expect((await tandem(["train", ...flags, "--workers", "3", "--out", calm])).code).toBe(0);

    const out = join(folder, "run");
    const connect = `tcp://127.0.0.1:${await freePorts()}`;
    const coordinator = startApart(["coordinator", ...flags, "--listen", connect, "--out", out]);
    const workers = [1, 2, 3].map(() => startApart(["worker", "--connect", connect]));
    const steps = () => stepsOf(out);
    await vi.waitUntil(() => steps() >= 5, { timeout: 120_000, interval: 50 });
    const before = residentBytes(coordinator.child.pid);
    const [victim] = workers;
    victim?.child.kill("SIGSTOP");
    const [from, stepsBefore] = [performance.now(), steps()];
    let most = 0;
    const hasGoneOn = () => steps() > stepsBefore + 2;
    while (performance.now() - from < 1000 * SECONDS || !hasGoneOn()) {
      most = Math.max(most, residentBytes(coordinator.child.pid));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(most - before).toBeLessThan(STATE_BYTES + HEAP_BYTES);
    victim?.child.kill("SIGCONT");
    for (const { ended, stderr } of [...workers, coordinator]) expect(await ended, stderr()).toBe(0);
    expect((await checkpointOf(out)).sha256).toEqual((await checkpointOf(calm)).sha256);
    process.stdout.write(`coordinator ${((most - before) / 2 ** 20).toFixed(0)} MiB more meanwhile\n`);
  },
);
