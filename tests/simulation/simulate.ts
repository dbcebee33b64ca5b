/**
 * `npm run schedules`: schedules by the thousand, on all cores. A schedule that breaks a promise is told with its seed:
 * `npm run schedules -- --seed SEED` plays it again. After `--failures N` (3) of them, or after `--seconds S`, no more are played.
 */
import { availableParallelism } from "node:os";
import { once } from "node:events";
import { setFlagsFromString } from "node:v8";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { scenarioOf, simulate, type Outcome } from "./cluster.js";

export interface Schedules {
  readonly from: number;
  readonly count: number;
  /** failures after which no more are played */
  readonly enough: number;
}

/** `seconds`: after which no further piece is begun */
export interface Campaign extends Schedules {
  readonly seconds: number;
}

/** Sums over schedules. */
export interface Tally {
  readonly schedules: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly stepsRepeated: number;
  readonly troubles: Readonly<Record<string, number>>;
  readonly failures: readonly { readonly seed: number; readonly message: string }[];
}

const NOTHING: Tally = { schedules: 0, events: 0, virtualMs: 0, stepsRepeated: 0, troubles: {}, failures: [] };
/** Schedules that a thread takes at a time. */
const PIECE = 20;

export function runSchedules({ from, count, enough }: Schedules): Tally {
  let tally = NOTHING;
  for (let seed = from; seed < from + count && tally.failures.length < enough; seed++) {
    try {
      tally = added(tally, { ...NOTHING, ...simulate(scenarioOf(seed)), schedules: 1 });
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      tally = added(tally, { ...NOTHING, schedules: 1, failures: [{ seed, message }] });
    }
  }
  return tally;
}

export function added(a: Tally, b: Tally | (Outcome & Tally)): Tally {
  const troubles = { ...a.troubles };
  for (const [kind, number] of Object.entries(b.troubles)) troubles[kind] = (troubles[kind] ?? 0) + number;
  return {
    schedules: a.schedules + b.schedules,
    events: a.events + b.events,
    virtualMs: a.virtualMs + b.virtualMs,
    stepsRepeated: a.stepsRepeated + b.stepsRepeated,
    troubles,
    failures: [...a.failures, ...b.failures],
  };
}

/** The schedules on all cores, piece by piece. @param module this module's compiled file, which the threads run */
export async function onAllCores({ from, count, enough, seconds }: Campaign, module: URL): Promise<Tally> {
  const end = performance.now() + 1000 * seconds;
  const pieces: Schedules[] = [];
  for (let start = from; start < from + count; start += PIECE) {
    pieces.push({ from: start, count: Math.min(PIECE, from + count - start), enough });
  }
  let tally = NOTHING;
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  const work = async (thread: Worker) => {
    for (let piece = pieces.shift(); piece !== undefined; piece = pieces.shift()) {
      thread.postMessage(piece);
      const [result] = (await once(thread, "message")) as [Tally];
      tally = added(tally, result);
      if (tally.failures.length >= enough) stop();
      if (performance.now() > end) pieces.length = 0;
    }
  };
  // All cores are taken: a thread that lets others help it collect its garbage waits for them.
  setFlagsFromString("--no-parallel-scavenge");
  const threads = Array.from(
    { length: Math.min(availableParallelism(), pieces.length) },
    // Almost everything dies young.
    () => new Worker(module, { workerData: "schedules", resourceLimits: { maxYoungGenerationSizeMb: 64 } }),
  );
  try {
    await Promise.race([stopped, Promise.all(threads.map(work))]);
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
  return tally;
}

export function report({ schedules, events, virtualMs, stepsRepeated, troubles, failures }: Tally): string {
  const counts = Object.entries(troubles).map(([kind, number]) => `${kind} ${number}`);
  return [
    `${schedules} schedules, ${(events / 1e6).toFixed(1)} million events, ${(virtualMs / 3.6e6).toFixed(1)} hours of virtual time`,
    `troubles: ${counts.join(", ")}; steps computed again: ${stepsRepeated}`,
    ...failures.map(({ seed, message }) => `FAILED: npm run schedules -- --seed ${seed}\n${message}`),
    failures.length === 0 ? "no violation" : `${failures.length} violations`,
    "",
  ].join("\n");
}

if (!isMainThread && workerData === "schedules") {
  parentPort?.on("message", (piece: Schedules) => parentPort?.postMessage(runSchedules(piece)));
} else if (
  isMainThread &&
  process.argv[1] !== undefined &&
  import.meta.url.endsWith(process.argv[1].split("/").at(-1) ?? "")
) {
  const flag = (name: string) => {
    const at = process.argv.indexOf(`--${name}`);
    return at === -1 ? undefined : Number(process.argv[at + 1]);
  };
  const seed = flag("seed");
  const enough = flag("failures") ?? 3;
  const seconds = flag("seconds") ?? Infinity;
  const schedules =
    seed === undefined
      ? { from: flag("from") ?? 0, count: flag("schedules") ?? 200_000, enough }
      : { from: seed, count: 1, enough };
  const start = performance.now();
  const tally =
    seed === undefined
      ? await onAllCores({ ...schedules, seconds }, new URL(import.meta.url))
      : runSchedules(schedules);
  process.stdout.write(`${report(tally)}${((performance.now() - start) / 1000).toFixed(1)} s\n`);
  process.exitCode = tally.failures.length === 0 ? 0 : 1;
}
