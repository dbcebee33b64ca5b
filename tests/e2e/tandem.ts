/** Running the program as its users do. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";

export const PROGRAM = fileURLToPath(new URL("../../bin/tandem.js", import.meta.url));

/** A folder that goes with the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tandem-e2e-"));
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly process: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly ended: Promise<Ended>;
}

/** @param env added to this process's own */
export function start(args: readonly string[], cwd = tmpdir(), env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, stdout, stderr }));
  return { process: child, stdout: () => stdout, stderr: () => stderr, ended };
}

export function tandem(args: readonly string[], cwd?: string): Promise<Ended> {
  return start(args, cwd).ended;
}

/** `npm run invariance`: every variant with every number of workers. `npm test` takes of each what differs most. */
export const IS_FULL = process.env["INVARIANCE"] === "full";

/** Flags of a run that takes seconds: resnet-tiny on pictures of 8 × 8, W·B = 4 · 8. */
export const SMALL_RUN = [
  ...["--data", "synthetic:size=16,train=400,test=40", "--world-size", "4", "--batch", "8", "--seed", "7"],
  ...["--set", "data.imageSize=8", "--set", "data.decodeSize=8", "--set", "moco.queueSize=100"],
  ...["--set", "evaluation.everyEpochs=0", "--set", "checkpoint.everySteps=0"],
] as const;

interface CheckpointReport {
  readonly step: number;
  readonly sha256: Readonly<Record<string, string>>;
}

/** What `tandem checkpoint --json` says. */
export async function checkpointOf(directory: string): Promise<CheckpointReport> {
  const { code, stdout, stderr } = await tandem(["checkpoint", directory, "--json"]);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as CheckpointReport;
}

type Digests = CheckpointReport["sha256"];

/**
 * The digests that a small run leaves with one number of workers and with others. The first run keeps its compiled step on this
 * machine; the others, which go on side by side, find it there.
 */
export async function digestsWith(
  folder: string,
  flags: readonly string[],
  [first, ...others]: readonly number[],
): Promise<Digests[]> {
  const place = mkdtempSync(join(folder, "with-"));
  const digests = async (workers: number) => {
    const out = join(place, String(workers));
    const ended = await tandem(["train", ...SMALL_RUN, ...flags, "--workers", String(workers), "--out", out]);
    if (ended.code !== 0 || ended.stderr.includes("runs eagerly")) throw new Error(ended.stderr);
    return (await checkpointOf(out)).sha256;
  };
  return [await digests(first), ...(await Promise.all(others.map(digests)))];
}

interface Event {
  readonly kind: string;
  /** ISO 8601 */
  readonly time: string;
  readonly step?: number;
}

/** The events that a run has left so far. */
export function eventsOf(directory: string): readonly Event[] {
  const path = join(directory, "events.jsonl");
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Event);
}

/** Steps that a run has finished so far, those that it made again included. */
export function stepsOf(directory: string): number {
  return eventsOf(directory).filter(({ kind }) => kind === "step").length;
}

/** The processes that a process has started. @param command of tandem; undefined: any */
export function ownProcesses(pid: number | undefined, command?: string): number[] {
  const ids = readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, "utf8").match(/\d+/g) ?? [];
  const isAsked = (id: number) =>
    command === undefined || readFileSync(`/proc/${String(id)}/cmdline`, "utf8").split("\0")[2] === command;
  return ids.map(Number).filter(isAsked);
}

export function kill(ids: readonly number[]): void {
  for (const id of ids) process.kill(id, "SIGKILL");
}
