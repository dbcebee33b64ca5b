/** A run that is made to be measured: its coordinator is in this process, its workers are processes beside it, and nothing of it is left. */
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCoordinator } from "../../coordinator/main.js";
import { toAll } from "../../coordinator/observers.js";
import type { RunObserver } from "../../coordinator/server.js";
import type { RunConfig } from "../config/index.js";
import type { Wire } from "../models/exchange.js";
import { BreakdownError, UserError } from "../protocol/errors.js";
import type { Devices } from "./device-choice.js";
import { endWithin, SAYS_WHAT, startMember, type Role } from "./train/children.js";

export interface PassingRun {
  /** says how many workers there are; none of them may be lost */
  readonly config: RunConfig;
  /** of each worker */
  readonly devices: Devices;
  /** processes that aggregate; null: a thread of this one does */
  readonly aggregators: number | null;
  readonly wire: Wire;
  readonly overlaps: boolean;
  /** hears of the run; what should not happen is shown whether it cares or not */
  readonly observer: Partial<RunObserver>;
  /** ends the run in order */
  readonly signal?: AbortSignal;
}

/** How long a process may take to leave once the run is over, in ms. */
const FAREWELL_MS = 10_000;
/** Exit code of a process of ours that finds a mistake of the user's. */
const MISTAKE = 2;

/**
 * Resolves once the run has finished and its processes have ended.
 * @throws UserError `NO_WORKERS` where one of them finds a mistake, BreakdownError where one ends otherwise before the run does; what `runCoordinator` throws
 * @throws the signal's reason, where it was aborted and they have ended as they should
 */
export async function passingRun(options: PassingRun): Promise<void> {
  const { config, aggregators, wire, overlaps, signal } = options;
  const directory = await mkdtemp(join(tmpdir(), "tandem-bench-"));
  const lost = new AbortController();
  const members: ChildProcess[] = [];
  let failure: Error | null = null;
  const start = (role: Role, number: number, args: readonly string[]) => {
    const name = `${role}-${number}`;
    let lastLine = "no word";
    const own = ["--name", name, "--log", join(directory, `${name}.jsonl`)];
    const member = startMember(role, [...args, ...own], (line) => {
      if (SAYS_WHAT.test(line)) lastLine = line;
    });
    members.push(member);
    member.on("exit", (code, killer) => {
      if (code === 0) return;
      const message = `${name} has ended with ${code ?? killer ?? "nothing"}: ${lastLine}`;
      failure ??= code === MISTAKE ? new UserError("NO_WORKERS", message) : new BreakdownError(message);
      lost.abort();
    });
  };
  let outcome: string | null = null;
  try {
    ({ outcome } = await runCoordinator({
      ...{ config, aggregators, wire, overlaps },
      listen: "tcp://127.0.0.1:*",
      streamsData: false,
      out: join(directory, "run"),
      resume: false,
      keys: null,
      signal: AbortSignal.any([lost.signal, ...(signal === undefined ? [] : [signal])]),
      onListening: ({ control }) => {
        const { devices } = options;
        const flags = [devices.length > 1 ? "--devices" : "--device", devices.join(",")];
        for (let number = 1; number <= config.parallel.workers; number++) {
          start("worker", number, ["--connect", control, ...flags]);
        }
        for (let number = 1; number <= (aggregators ?? 0); number++) {
          start("aggregator", number, ["--connect", control]);
        }
      },
      observer: toAll(SHOWS_FAULTS, options.observer),
    }));
  } finally {
    // Nobody comes any more whom they could wait for.
    if (outcome !== "finished") for (const member of members) member.kill("SIGTERM");
    await Promise.all(members.map((member) => endWithin(member, FAREWELL_MS)));
    await rm(directory, { recursive: true, force: true });
  }
  if (outcome === "finished") return;
  if (failure === null) signal?.throwIfAborted();
  throw failure ?? new BreakdownError(`the run has ${outcome}`);
}

const show = (line: string) => process.stderr.write(`tandem: ${line}\n`);

const SHOWS_FAULTS: Partial<RunObserver> = {
  corrupt: (name) => show(`image ${name} cannot be decoded`),
  dropped: (peer, reason) => show(`dropped from ${peer}: ${reason}`),
};
