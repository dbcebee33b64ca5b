/** Another program that trains, to be measured in turn with ours: a command of the user's. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { UserError } from "../../protocol/errors.js";
import { endWithin } from "../train/children.js";

/** What the command is told of a run, where it says {name}. */
export interface PeerRun {
  readonly workers: number;
  readonly batch: number;
  readonly threads: number;
  readonly steps: number;
  readonly warmup: number;
}

/** How long it may take to end when asked, in ms. */
const FAREWELL_MS = 5_000;
/** Names under which images/s may stand in its last line. */
const SPEEDS = ["images_per_s", "imagesPerSecond"];

/** @throws UserError where it is not told how many workers there are, or of something that is not known */
export function checkPeer(command: string): void {
  if (!command.includes("{workers}")) {
    throw new UserError("USAGE", `--peer ${command}: say where the number of workers goes, with {workers}`);
  }
  filled(command, { workers: 1, batch: 1, threads: 1, steps: 1, warmup: 0 });
}

/**
 * Runs it in a shell and in a process group of its own, which ends as a whole when `signal` is aborted.
 * @returns images/s of all workers, from its last line: JSON with `images_per_s`
 * @throws UserError `PEER_FAILED`
 */
export async function peerSpeed(command: string, run: PeerRun, signal: AbortSignal): Promise<number> {
  const failed = (reason: string) => new UserError("PEER_FAILED", `--peer, with ${run.workers} workers: ${reason}`);
  const child = spawn("/bin/sh", ["-c", filled(command, run)], { stdio: ["ignore", "pipe", "pipe"], detached: true });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  const end = (name: NodeJS.Signals) => {
    if (child.pid !== undefined) killGroup(child.pid, name);
  };
  const closed = once(child, "close");
  let stop: () => void = () => undefined;
  const stopped = new Promise<never>((_, reject) => {
    stop = () => {
      end("SIGTERM");
      reject(signal.reason as Error);
    };
  });
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    const [code] = (await Promise.race([closed, stopped])) as [number | null];
    const last = lastLine(stderr);
    if (code !== 0) throw failed(`it has ended with ${code ?? child.signalCode}${last === "" ? "" : `: ${last}`}`);
    const speed = speedIn(lastLine(stdout));
    if (speed === null) throw failed('its last line has to be JSON with images/s, as {"images_per_s": 40.4}');
    return speed;
  } finally {
    signal.removeEventListener("abort", stop);
    await endWithin(child, FAREWELL_MS);
    // What it may have left behind.
    end("SIGKILL");
  }
}

function killGroup(leader: number, name: NodeJS.Signals): void {
  try {
    process.kill(-leader, name);
  } catch (error) {
    // Nobody of the group is left.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function filled(command: string, run: PeerRun): string {
  return command.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (name in run) return String(run[name as keyof PeerRun]);
    const known = Object.keys(run).map((key) => `{${key}}`);
    throw new UserError("USAGE", `--peer: {${name}} is not known; there are ${known.join(", ")}`);
  });
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}

function speedIn(line: string): number | null {
  try {
    const found = JSON.parse(line) as Record<string, unknown> | null;
    const speed = SPEEDS.map((name) => found?.[name]).find((value) => typeof value === "number");
    return speed !== undefined && speed > 0 ? speed : null;
  } catch {
    return null;
  }
}
