/** `tandem bench scaling`: how much faster several workers of this machine are than one, and where the rest goes. */
import type { CommandModule } from "yargs";
import { checkAgainstDataset } from "../config/resolve.js";
import { labelledLength, openRunDataset } from "../data/index.js";
import { BreakdownError, UserError } from "../protocol/errors.js";
import { AGGREGATORS_OPTION, aggregatorsOf, WIRE_OPTIONS, wireOf, type WireArguments } from "./coordinator-options.js";
import { DEVICE_OPTIONS, devicesOf } from "./device-choice.js";
import { checkOutput, writeOutput } from "./output-file.js";
import { configOf, once, pathOf, wholeNumber, withRunOptions, type RunArguments } from "./run-options.js";
import { ROUNDS_FOR_INTERVALS } from "./scaling-bench/bootstrap.js";
import { COUNTS_FOR_UNIVERSAL } from "./scaling-bench/laws.js";
import { thisMachine, type Machine } from "./scaling-bench/machine.js";
import { configsOf, measure, type MeasureHooks, type MeasureOptions } from "./scaling-bench/measure.js";
import { checkPeer } from "./scaling-bench/peer.js";
import { KINDS, type Kind } from "./scaling-bench/plan.js";
import { reportOf } from "./scaling-bench/report.js";
import { resultOf } from "./scaling-bench/result.js";
import { asText } from "./scaling-bench/text.js";
import { duration } from "../telemetry/progress-line.js";
import { shellWord } from "../config/shell-word.js";
import { stopSignal } from "./stop-signal.js";

interface ScalingArguments extends Omit<RunArguments, "workers" | "steps" | "epochs">, WireArguments {
  readonly workers: string;
  readonly steps: number;
  readonly warmup: number;
  readonly rounds: number;
  readonly scaling: Kind | "both";
  readonly aggregators: string;
  readonly device: string | undefined;
  readonly devices: string | undefined;
  readonly peer: string | undefined;
  readonly report: string | undefined;
  readonly json: boolean;
}

const MOST_WORKERS = 64;
/** Load in the minute before, of each core, from which on other programs are in the way. */
const BUSY = 0.5;
const CLEAR_LINE = "\r\x1b[K";
const RUN_OPTIONS = [
  ...(["preset", "config", "set", "data", "tokenizer", "method", "encoder", "optimizer", "world-size"] as const),
  ...(["batch", "threads", "precision", "eager", "seed"] as const),
];

export const scalingCommand: CommandModule<object, ScalingArguments> = {
  command: "scaling",
  describe: "Time a run's steps with 1, 2, … workers of this machine: speed-up, efficiency, where the lost time goes",
  builder: (yargs) =>
    withRunOptions(yargs, [...RUN_OPTIONS])
      .option("workers", { type: "string", default: "1,2", requiresArg: true, describe: "Numbers of workers, 1 first" })
      .option("scaling", {
        choices: [...KINDS, "both"] as const,
        default: "both" as const,
        requiresArg: true,
        describe: "weak: W = N ranks for N workers; strong: the same W, the most workers or --world-size, for all",
      })
      .option("rounds", { type: "number", default: 5, requiresArg: true, describe: "Runs of each kind, all in turn" })
      .option("steps", { type: "number", default: 10, requiresArg: true, describe: "Steps of a run that count" })
      .option("warmup", { type: "number", default: 4, requiresArg: true, describe: "Steps before them" })
      .option("peer", {
        type: "string",
        requiresArg: true,
        describe:
          "Another program, measured in turn: a shell command with {workers}, and {batch}, {threads}, {steps}, {warmup} where it wants them; its last line is JSON with images_per_s",
      })
      .option("report", { type: "string", requiresArg: true, describe: "Write plots and tables to this HTML file" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object as the last line" })
      .option("aggregators", AGGREGATORS_OPTION)
      .options(WIRE_OPTIONS)
      .options(DEVICE_OPTIONS)
      .example("$0 bench scaling --workers 1,2,4 --report scaling.html", "The quickstart's run, with a report")
      .example("$0 bench scaling --preset cifar10 --encoder resnet18 --batch 32", "Your own config"),
  handler: async (given) => {
    const report = pathOf("--report", given.report);
    if (report !== undefined) await checkOutput("--report", report);
    const options = await optionsOf(given);
    await checkRuns(options);
    const machine = thisMachine();
    const signal = stopSignal();
    const measured = await measure(options, { signal, onRun: progress(() => performance.now()) })
      .finally(clearProgress)
      .catch((error: unknown) => {
        if (!signal.aborted) throw error;
        throw new BreakdownError(`stopped by ${String(signal.reason)} before all was measured: nothing is reported`);
      });
    const command = ["npx", "tandem", ...process.argv.slice(2)].map(shellWord).join(" ");
    const result = resultOf(options, measured, { machine, command, notes: notesOf(options, machine) });
    if (report !== undefined) {
      await writeOutput(report, async (path) => reportOf(result, options.config, path));
    }
    process.stdout.write(given.json ? `${JSON.stringify(result)}\n` : asText(result));
  },
};

async function optionsOf(given: ScalingArguments): Promise<MeasureOptions> {
  const counts = countsOf(once("workers", given.workers));
  const most = counts[counts.length - 1];
  const worldSize = wholeNumber("world-size", given["world-size"]) ?? most;
  if (worldSize < most) {
    throw new UserError("USAGE", `--world-size ${worldSize}: ${most} workers need a rank each, give ${most} or more`);
  }
  aggregatorsOf(given.aggregators, most);
  const scaling = once("scaling", given.scaling);
  const peer = once("peer", given.peer) ?? null;
  if (peer !== null) checkPeer(peer);
  if (peer !== null && scaling === "strong") {
    throw new UserError("USAGE", "--peer is measured in weak scaling: leave out --scaling strong");
  }
  // Runs have neither the flags' numbers of workers and steps, nor an evaluation.
  const set = [...(given.set ?? []), "evaluation.everyEpochs=0"];
  const flags = { ...given, set, workers: undefined, steps: undefined, epochs: undefined, "world-size": worldSize };
  return {
    config: await configOf(flags, null),
    kinds: scaling === "both" ? KINDS : [scaling],
    counts,
    worldSize,
    rounds: wholeNumber("rounds", given.rounds),
    steps: wholeNumber("steps", given.steps),
    warmup: wholeNumber("warmup", given.warmup, 0),
    devices: devicesOf(once("device", given.device), once("devices", given.devices)),
    aggregators: (workers) => aggregatorsOf(given.aggregators, workers),
    ...{ wire: wireOf(given), overlaps: given.overlap, peer },
  };
}

/** Shows which run is on, and when the last will have been, on a terminal. @param now clock in ms */
function progress(now: () => number): MeasureHooks["onRun"] {
  const begunAt = now();
  return ({ what, run, runs }) => {
    if (!process.stderr.isTTY) return;
    const left = run === 1 ? "?" : duration(((now() - begunAt) / (run - 1)) * (runs - run + 1));
    process.stderr.write(`${CLEAR_LINE}run ${run} of ${runs}: ${what}  ETA ${left}`);
  };
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE);
}

/** @throws UserError where they are not whole numbers, ascending from 1 */
function countsOf(text: string): number[] {
  const refused = (reason: string) => new UserError("USAGE", `--workers ${text}: ${reason}`);
  const counts = text.split(",").map(Number);
  if (!counts.every((count) => Number.isInteger(count) && count >= 1 && count <= MOST_WORKERS)) {
    throw refused(`give whole numbers from 1 to ${MOST_WORKERS}, as 1,2,4`);
  }
  counts.sort((a, b) => a - b);
  const twice = counts.find((count, index) => count === counts[index - 1]);
  if (twice !== undefined) throw refused(`${twice} is there twice: give each number once`);
  if (counts[0] !== 1) throw refused("put 1 in front, with which the others are compared");
  return counts;
}

/** Every run's config and data, before the first of them. @throws UserError */
async function checkRuns(options: MeasureOptions): Promise<void> {
  const configs = await configsOf(options);
  const { splits } = await openRunDataset(options.config.data.spec, options.config);
  const { length } = splits.train;
  for (const config of configs.values()) {
    checkAgainstDataset(config, { length, unlabelled: length - labelledLength(splits.train) });
  }
}

function notesOf({ config, counts, rounds }: MeasureOptions, { cores, load }: Machine): string[] {
  const { threads } = config.parallel;
  const crowded = counts.filter((workers) => workers * threads > cores);
  return [
    ...(crowded.length === 0
      ? []
      : [`With ${crowded.join(", ")} workers there are more threads than the ${cores} cores: they share them.`]),
    ...(load < BUSY * cores
      ? []
      : [
          `The load in the minute before was ${load.toFixed(1)} on ${cores} cores: other programs, or what ran before, may have been in the way.`,
        ]),
    ...(counts.length < COUNTS_FOR_UNIVERSAL
      ? [
          `The USL needs ${COUNTS_FOR_UNIVERSAL} different numbers of workers, and is not fitted to ${counts.join(", ")}.`,
        ]
      : []),
    ...(rounds < ROUNDS_FOR_INTERVALS
      ? [`Intervals need ${ROUNDS_FOR_INTERVALS} rounds, and are not given for fewer (--rounds ${rounds}).`]
      : []),
  ];
}
