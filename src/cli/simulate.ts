/** `tandem simulate`: how a run would scale on machines that are described and not there. */
import { writeFile } from "node:fs/promises";
import { readRunConfig } from "../checkpoint/index.js";
import { updateRule } from "../config/optimizer.js";
import type { RunConfig } from "../config/schema.js";
import { UserError } from "../protocol/errors.js";
import type { CommandBody } from "./commands.js";
import { WIRE_OPTIONS } from "./coordinator-options.js";
import { existingRun } from "./existing-run.js";
import { checkOutput, writeOutput } from "./output-file.js";
import { configOf, once, pathOf, wholeNumber, withRunOptions, type RunArguments } from "./run-options.js";
import { shellWord } from "../config/shell-word.js";
import { measureCosts } from "./simulate/costs.js";
import { curves, type CurvePoint, type Plan } from "./simulate/curves.js";
import { assumedRankTimes, LEAST_RANK_MS, measuredRankTimes, MOST_RANK_MS, payloadOf } from "./simulate/profile.js";
import { recommend } from "./simulate/recommendation.js";
import { cellsOf, POINT_COLUMNS, reportPage } from "./simulate/report.js";
import { ARRANGEMENTS, type Arrangement } from "./simulate/scenario.js";

interface SimulateArguments extends RunArguments {
  readonly run: string | undefined;
  readonly devices: string;
  readonly "devices-per-machine": number;
  readonly aggregation: string;
  readonly "most-aggregators": number;
  readonly scaling: "weak" | "strong";
  readonly "rank-ms": number | undefined;
  readonly spread: number;
  readonly gbits: number;
  readonly "latency-us": number;
  readonly oversubscription: number;
  readonly "shared-memory": boolean;
  readonly "straggler-share": number;
  readonly "straggler-factor": number;
  readonly failures: number;
  readonly interruptions: number;
  readonly replace: number;
  readonly samples: number | undefined;
  readonly price: number | undefined;
  readonly efficiency: number;
  readonly json: boolean;
  readonly report: string | undefined;
}

const MOST_DEVICES = 4096;
const CONFIG_FLAGS = ["preset", "config", "set", "encoder", "batch", "precision", "world-size", "seed"] as const;

export const simulateCommand: CommandBody<SimulateArguments> = {
  builder: (yargs) =>
    withRunOptions(yargs, [...CONFIG_FLAGS])
      .positional("run", {
        type: "string",
        describe: "Directory of a run whose config and measured times of ranks are taken; without it, give --rank-ms",
      })
      .option("devices", {
        type: "string",
        default: "1,2,4,8,16,32,64",
        requiresArg: true,
        describe: "Numbers of devices",
      })
      .option("devices-per-machine", {
        type: "number",
        default: 1,
        requiresArg: true,
        describe: "Devices that share a link",
      })
      .option("aggregation", {
        type: "string",
        default: ARRANGEMENTS.join(","),
        requiresArg: true,
        describe: `Of ${ARRANGEMENTS.join(", ")}; hierarchical wants more than one device a machine`,
      })
      .option("most-aggregators", {
        type: "number",
        default: 32,
        requiresArg: true,
        describe: "Aggregators at most; otherwise one a machine",
      })
      .option("scaling", {
        choices: ["weak", "strong"] as const,
        default: "weak" as const,
        describe: "weak: a rank a device; strong: --world-size ranks whatever their number",
      })
      .option("rank-ms", {
        type: "number",
        requiresArg: true,
        describe: "Time of a rank on one device, forward and backward",
      })
      .option("spread", {
        type: "number",
        default: 0.03,
        requiresArg: true,
        describe: "Of --rank-ms: standard deviation over the mean",
      })
      .option("gbits", {
        type: "number",
        default: 10,
        requiresArg: true,
        describe: "Of each machine's link, each way, in Gbit/s",
      })
      .option("latency-us", {
        type: "number",
        default: 50,
        requiresArg: true,
        describe: "Of the network, one way, in µs",
      })
      .option("oversubscription", {
        type: "number",
        default: 1,
        requiresArg: true,
        describe: "Of the switch: all links over what it carries",
      })
      .option("shared-memory", WIRE_OPTIONS["shared-memory"])
      .option("straggler-share", {
        type: "number",
        default: 0,
        requiresArg: true,
        describe: "Share of the devices that are slow, 0 to 1",
      })
      .option("straggler-factor", {
        type: "number",
        default: 1.5,
        requiresArg: true,
        describe: "How many times as long those take",
      })
      .option("failures", { type: "number", default: 0, requiresArg: true, describe: "Of each machine, a day" })
      .option("interruptions", {
        type: "number",
        default: 0,
        requiresArg: true,
        describe: "Of each spot machine, with a warning, a day",
      })
      .option("replace", {
        type: "number",
        default: 180,
        requiresArg: true,
        describe: "Until a machine is replaced, in s",
      })
      .option("samples", { type: "number", requiresArg: true, describe: "Of an epoch, e.g. 1281167" })
      .option("price", { type: "number", requiresArg: true, describe: "Of one device and hour" })
      .option("efficiency", {
        type: "number",
        default: 0.7,
        requiresArg: true,
        describe: "That more devices are worth, 0 to 1",
      })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .option("report", { type: "string", requiresArg: true, describe: "Write a report with plots: one HTML file" })
      .example("$0 simulate runs/a --devices 1,8,64 --gbits 25", "The run in runs/a on more machines")
      .example(
        "$0 simulate --preset imagenet --rank-ms 310 --devices 1,8,64,512 --devices-per-machine 8 --samples 1281167 --price 2.5",
        "ResNet-50 on machines of eight GPUs, with the price of an epoch",
      ),
  handler: async (given) => {
    const config = await configFor(given);
    const plan = await planOf(given, config);
    const efficiency = within("efficiency", given.efficiency, 0, 1);
    const report = pathOf("--report", given.report);
    if (report !== undefined) await checkOutput("--report", report);
    const isQuiet = given.json;
    if (!isQuiet) process.stdout.write(`${heading()}\n`);
    const points = curves(plan, (point) => {
      if (!isQuiet) process.stdout.write(`${line(point)}\n`);
    });
    const recommendation = recommend(plan, points, efficiency);
    if (isQuiet) process.stdout.write(`${JSON.stringify({ points, recommendation })}\n`);
    else process.stdout.write(`\n${recommendation.words.join("\n")}\n`);
    if (report === undefined) return;
    const command = ["tandem", ...process.argv.slice(2).map(shellWord)].join(" ");
    const html = reportPage({ plan, points, recommendation, subject: subjectOf(config), command });
    await writeOutput(report, (temporary) => writeFile(temporary, html));
  },
};

async function configFor(given: SimulateArguments): Promise<RunConfig> {
  if (given.run === undefined) return configOf(given, null);
  const run = await existingRun(given.run);
  const named = CONFIG_FLAGS.find((name) => name !== "world-size" && given[name] !== undefined);
  if (named !== undefined)
    throw new UserError("USAGE", `--${named} does not go with a run, whose config is taken: leave out one of the two`);
  return readRunConfig(run);
}

function subjectOf({ model, parallel }: RunConfig): string {
  return `${model.encoder}, batch ${String(parallel.batchSize)}`;
}

/** @throws UserError where a flag makes no sense */
async function planOf(given: SimulateArguments, config: RunConfig): Promise<Plan> {
  const { seed } = config;
  const devicesPerMachine = wholeNumber("devices-per-machine", given["devices-per-machine"]);
  const arrangements = arrangementsOf(given.aggregation, devicesPerMachine);
  const rankMs = once("rank-ms", given["rank-ms"]);
  if (rankMs === undefined && given.run === undefined)
    throw new UserError("USAGE", "how long a rank takes is not known: name a run's directory, or give --rank-ms");
  if (rankMs !== undefined) within("rank-ms", rankMs, LEAST_RANK_MS, MOST_RANK_MS);
  const spread = within("spread", given.spread, 0, 10);
  const rankTimes =
    rankMs === undefined ? await measuredRankTimes(given.run ?? "") : assumedRankTimes(rankMs, spread, seed);
  const worldSize = wholeNumber("world-size", given["world-size"]) ?? config.parallel.worldSize;
  return {
    scenario: {
      devicesPerMachine,
      mostAggregators: wholeNumber("most-aggregators", given["most-aggregators"]),
      payload: await payloadOf(config),
      network: {
        gbits: within("gbits", given.gbits, 0.001, 1e5),
        latencyMs: within("latency-us", given["latency-us"], 0, 1e6) / 1000,
        sharesMemory: given["shared-memory"],
        oversubscription: within("oversubscription", given.oversubscription, 1, 1000),
      },
      costs: measureCosts(updateRule(config.optimizer)),
      rankTimes,
      stragglers: {
        share: within("straggler-share", given["straggler-share"], 0, 1),
        factor: within("straggler-factor", given["straggler-factor"], 1, 1000),
      },
      overlaps: true,
      seed,
    },
    arrangements,
    devices: devicesOf(given.devices),
    ranks: once("scaling", given.scaling) === "weak" ? { kind: "weak" } : { kind: "strong", worldSize },
    batchSize: config.parallel.batchSize,
    failures: {
      failuresPerDay: within("failures", given.failures, 0, 1e4),
      interruptionsPerDay: within("interruptions", given.interruptions, 0, 1e4),
      replaceSeconds: within("replace", given.replace, 0, 1e6),
      deadAfterMs: config.membership.deadAfterMs,
    },
    samples: wholeNumber("samples", given.samples) ?? null,
    price: given.price === undefined ? null : within("price", given.price, 0, 1e9),
  };
}

function devicesOf(given: string): readonly number[] {
  const counts = once("devices", given).split(",").map(Number);
  const areSound = counts.every((count) => Number.isInteger(count) && count >= 1 && count <= MOST_DEVICES);
  if (areSound && new Set(counts).size === counts.length) return counts.sort((a, b) => a - b);
  throw new UserError(
    "USAGE",
    `--devices ${given}: give different whole numbers from 1 to ${String(MOST_DEVICES)}, as 1,2,4,8`,
  );
}

function arrangementsOf(given: string, devicesPerMachine: number): readonly Arrangement[] {
  const names = once("aggregation", given).split(",");
  const found = ARRANGEMENTS.filter((name) => names.includes(name));
  if (found.length !== names.length)
    throw new UserError("USAGE", `--aggregation ${given}: give some of ${ARRANGEMENTS.join(",")}`);
  // With one device a machine it is the same as sharded.
  if (devicesPerMachine > 1) return found;
  const others = found.filter((name) => name !== "hierarchical");
  if (others.length > 0) return others;
  throw new UserError("USAGE", "--aggregation hierarchical sums over a machine's devices: give --devices-per-machine");
}

function within(name: string, given: number, least: number, most: number): number {
  const value = once(name, given);
  if (value >= least && value <= most) return value;
  // yargs makes NaN of whatever is no number.
  const shown = Number.isNaN(value) ? " is no number" : ` ${String(value)}`;
  throw new UserError("USAGE", `--${name}${shown}: give a number from ${String(least)} to ${String(most)}`);
}

const WIDTHS = [7, 10, 9, 10, 8, 8] as const;

function row(name: string, cells: readonly string[]): string {
  const padded = cells.map((cell, index) => (index < WIDTHS.length ? cell.padStart(WIDTHS[index] ?? 0) : `  ${cell}`));
  return `${name.padEnd(18)} ${padded.join(" ")}`;
}

function heading(): string {
  return row("aggregation", POINT_COLUMNS);
}

function line(point: CurvePoint): string {
  const { arrangement, aggregators } = point;
  return row(arrangement === "embedded" ? arrangement : `${arrangement} (${String(aggregators)})`, cellsOf(point));
}
