/** Rounds of runs, all in turn. */
import { resolveConfig, type RunConfig } from "../../config/index.js";
import { BreakdownError } from "../../protocol/errors.js";
import { passingRun, type PassingRun } from "../passing-run.js";
import { peerSpeed } from "./peer.js";
import { ordered, shapeName, shapesOf, type Kind } from "./plan.js";
import { middleHalf, StepAccount, type StepTime } from "./step-account.js";

export interface MeasureOptions extends Pick<PassingRun, "devices" | "wire" | "overlaps"> {
  /** of the user's */
  readonly config: RunConfig;
  readonly kinds: readonly Kind[];
  /** numbers of workers, ascending, 1 first */
  readonly counts: readonly number[];
  /** W of strong scaling */
  readonly worldSize: number;
  readonly rounds: number;
  /** steps of a run that count, and those before them */
  readonly steps: number;
  readonly warmup: number;
  /** how many processes aggregate for so many workers; null: the coordinator does */
  readonly aggregators: (workers: number) => number | null;
  /** another program's command; null: there is none */
  readonly peer: string | null;
}

export interface MeasureHooks {
  /** ends the run that is on */
  readonly signal: AbortSignal;
  /** is told before each run */
  readonly onRun: (progress: { readonly what: string; readonly run: number; readonly runs: number }) => void;
}

export interface Measurements {
  /** of a shape, by its name: a step of each round's run */
  readonly times: ReadonlyMap<string, readonly StepTime[]>;
  /** of the peer: images/s by round and number of workers; null: there is none */
  readonly peer: readonly (readonly number[])[] | null;
}

/** A config for each shape, by its name. @throws UserError where one contradicts itself, e.g. a queue that is smaller than W·B */
export async function configsOf(options: MeasureOptions): Promise<Map<string, RunConfig>> {
  const { config, kinds, counts, worldSize, steps, warmup } = options;
  const shapes = shapesOf(kinds, counts, worldSize);
  const resolved = shapes.map(async (shape): Promise<[string, RunConfig]> => {
    const overrides = {
      "parallel.worldSize": shape.worldSize,
      "parallel.workers": shape.workers,
      // Nothing is computed before all are here, nor with fewer.
      "membership.minWorkers": shape.workers,
      "schedule.steps": warmup + steps,
      "evaluation.everyEpochs": 0,
      "checkpoint.everySteps": 0,
    };
    return [shapeName(shape), await resolveConfig({ base: config, overrides })];
  });
  return new Map(await Promise.all(resolved));
}

/** One of the things that a round consists of. */
interface Case {
  readonly what: string;
  readonly run: (round: number) => Promise<void>;
}

/** @throws UserError, BreakdownError where a run or the peer fails; the signal's reason */
export async function measure(options: MeasureOptions, { signal, onRun }: MeasureHooks): Promise<Measurements> {
  const { config, counts, rounds, peer, steps, warmup } = options;
  const times = new Map<string, StepTime[]>();
  const ours = [...(await configsOf(options))].map(([what, own]): Case => {
    const runs: StepTime[] = [];
    times.set(what, runs);
    return {
      what,
      run: async () => {
        runs.push(await timedRun(options, own, signal));
      },
    };
  });
  const { batchSize: batch, threads } = config.parallel;
  const speeds = Array.from({ length: rounds }, () => counts.map(() => NaN));
  const theirs = (command: string) =>
    counts.map((workers, index): Case => ({
      what: `peer N=${workers}`,
      run: async (round) => {
        speeds[round][index] = await peerSpeed(command, { workers, batch, threads, steps, warmup }, signal);
      },
    }));
  const cases = [...ours, ...(peer === null ? [] : theirs(peer))];
  for (let round = 0; round < rounds; round++) {
    for (const [index, { what, run }] of ordered(cases, round).entries()) {
      onRun({ what, run: round * cases.length + index + 1, runs: rounds * cases.length });
      await run(round);
    }
  }
  return { times, peer: peer === null ? null : speeds };
}

async function timedRun(options: MeasureOptions, config: RunConfig, signal: AbortSignal): Promise<StepTime> {
  const { devices, wire, overlaps, warmup } = options;
  const { workers } = config.parallel;
  const account = new StepAccount(workers, () => performance.now());
  const due = warmup + options.steps;
  const lost = new AbortController();
  await passingRun({
    ...{ config, devices, wire, overlaps },
    signal: AbortSignal.any([signal, lost.signal]),
    aggregators: options.aggregators(workers),
    observer: {
      happened: (moment) => {
        account.happened(moment);
      },
      workerLeft: (worker, reason) => {
        // It may come back, but the time of its steps says nothing.
        if (account.steps.length < due) lost.abort(new BreakdownError(`${worker} was lost: ${reason}; measure again`));
      },
    },
  });
  return middleHalf(account.steps.slice(warmup));
}
