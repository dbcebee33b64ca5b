/** Rounds of runs, all in turn. */
import { resolveConfig, type RunConfig } from "../../config/index.js";
import { BreakdownError } from "../../protocol/errors.js";
import { passingRun, type PassingRun } from "../passing-run.js";
import { peerSpeed } from "./peer.js";
import { ordered, shapeName, shapesOf, type Kind, type Shape } from "./plan.js";
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

/** A config for each shape. @throws UserError where one contradicts itself, e.g. a queue that is smaller than W·B */
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

/** @throws UserError where a process of a run has ended before it; what the runs throw; the signal's reason */
export async function measure(options: MeasureOptions, { signal, onRun }: MeasureHooks): Promise<Measurements> {
  const { config, counts, kinds, worldSize, rounds, peer } = options;
  const configs = await configsOf(options);
  const shapes = shapesOf(kinds, counts, worldSize);
  const times = new Map(shapes.map((shape) => [shapeName(shape), [] as StepTime[]]));
  const speeds = Array.from({ length: rounds }, () => counts.map(() => 0));
  const { batchSize: batch, threads } = config.parallel;
  interface Case {
    readonly what: string;
    readonly run: (round: number) => Promise<void>;
  }
  const ours = shapes.map((shape): Case => {
    const what = shapeName(shape);
    const run = async () => {
      const own = configs.get(what);
      if (own !== undefined) times.get(what)?.push(await timedRun(options, shape, own, signal));
    };
    return { what, run };
  });
  const theirs = counts.map((workers, index): Case => {
    const { steps, warmup } = options;
    const run = async (round: number) => {
      speeds[round][index] = await peerSpeed(peer ?? "", { workers, batch, threads, steps, warmup }, signal);
    };
    return { what: `peer N=${workers}`, run };
  });
  const cases = [...ours, ...(peer === null ? [] : theirs)];
  for (let round = 0; round < rounds; round++) {
    for (const [index, { what, run }] of ordered(cases, round).entries()) {
      onRun({ what, run: round * cases.length + index + 1, runs: rounds * cases.length });
      await run(round);
    }
  }
  return { times, peer: peer === null ? null : speeds };
}

async function timedRun(
  options: MeasureOptions,
  { workers }: Shape,
  config: RunConfig,
  signal: AbortSignal,
): Promise<StepTime> {
  const { devices, wire, overlaps, warmup } = options;
  const account = new StepAccount(workers, () => performance.now());
  const due = warmup + options.steps;
  let lost: string | null = null;
  await passingRun({
    ...{ config, devices, wire, overlaps, signal },
    aggregators: options.aggregators(workers),
    observer: {
      happened: (moment) => {
        account.happened(moment);
      },
      workerLeft: (worker, reason) => {
        if (account.steps.length < due) lost ??= `${worker} was lost for a while (${reason})`;
      },
    },
  });
  if (lost !== null) throw new BreakdownError(`${lost as string}, and the run says nothing: measure again`);
  return middleHalf(account.steps.slice(warmup));
}
