/** The processes of one machine's run: starting them, hearing them, ending them. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** What the coordinator's process says to `tandem train`. */
export interface ToParent {
  /** endpoint of its control plane */
  readonly control: string;
}

/** What `tandem train` says to the coordinator's process: a line to show above the progress line. */
export interface FromParent {
  readonly note: string;
}

/** What of `tandem train` only its workers know, for the line that takes the run up again. */
const OWN_FLAGS = "TANDEM_TRAIN_FLAGS";
export const ownFlags = (): string => process.env[OWN_FLAGS] ?? "";

const PROGRAM = fileURLToPath(new URL("../../../../bin/tandem.js", import.meta.url));

/**
 * A coordinator in a session of its own: Ctrl-C on the terminal reaches `tandem train` alone, which passes it on. Its
 * output goes where ours goes. When we die, however, it hears that the channel is closed, and stops in order.
 * @param config YAML, through its standard input
 * @param flags of `tandem train` that concern its workers alone
 */
export function startCoordinator(args: readonly string[], config: string | null, flags: string): ChildProcess {
  const child = spawn(process.execPath, [PROGRAM, "coordinator", ...args], {
    env: { ...process.env, [OWN_FLAGS]: flags },
    stdio: ["pipe", "inherit", "inherit", "ipc"],
    detached: true,
  });
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(config ?? "");
  return child;
}

/** Of what a process prints when it fails, a stack among it, the line that says what happened. */
export const SAYS_WHAT = /^tandem: |Error\b.*: /;

/** What serves a run beside its coordinator. */
export type Role = "worker" | "aggregator";

/**
 * A worker, or an aggregator. What it prints comes to `onLine`, line by line.
 * @param namespace network namespace, as `ip netns` has it; null: ours
 */
export function startMember(
  role: Role,
  args: readonly string[],
  onLine: (line: string) => void,
  namespace: string | null = null,
): ChildProcess {
  const program = [process.execPath, PROGRAM, role, ...args];
  const [command = "", ...rest] = namespace === null ? program : ["ip", "netns", "exec", namespace, ...program];
  const child = spawn(command, rest, {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    detached: true,
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on("line", onLine);
  }
  return child;
}

/** @returns exit code, or the signal's name */
export async function ended(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null) return child.exitCode;
  if (child.signalCode !== null) return child.signalCode;
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  return code ?? signal ?? "unknown";
}

/** Waits for the end of a process that should end by itself; past `graceMs` it is killed. */
export async function endWithin(child: ChildProcess, graceMs: number): Promise<void> {
  const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await ended(child);
  clearTimeout(timer);
}
