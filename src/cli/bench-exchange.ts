/** `tandem bench exchange`: how long gradients and weights of a step are on their way, without any training. */
import type { CommandModule } from "yargs";
import type { GradientType } from "../models/exchange.js";
import { UserError } from "../protocol/errors.js";
import { timeExchanges, type ExchangeOptions, type ExchangeTimes } from "./exchange-bench/exchanges.js";
import { AGGREGATORS_OPTION, aggregatorsOf, WIRE_OPTIONS, wireOf, type WireArguments } from "./coordinator-options.js";
import { median } from "./median.js";
import { once, wholeNumber } from "./run-options.js";

interface ExchangeArguments extends WireArguments {
  readonly workers: string;
  readonly params: number;
  readonly rounds: number;
  readonly warmup: number;
  readonly aggregators: string;
  readonly gradients: GradientType;
  readonly precision: "fp32" | "bf16";
  readonly host: string;
  readonly namespaces: string | undefined;
  readonly json: boolean;
}

/** What the command prints of one number of workers. */
export interface ExchangeBenchmark {
  readonly workers: number;
  readonly params: number;
  readonly medianMs: number;
  readonly bestMs: number;
  /** of one worker in one exchange */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly sharedMemory: boolean;
  /** in and out of the machine that moves the most in one exchange; see `ExchangeTimes` */
  readonly busiestBytes: number;
  /** processes that aggregate; null: the coordinator's does */
  readonly aggregators: number | null;
  /** resident memory of the coordinator's process */
  readonly rssBytes: number;
}

const MOST_WORKERS = 64;

export const exchangeCommand: CommandModule<object, ExchangeArguments> = {
  command: "exchange",
  describe: "Time exchanges: gradients of all workers in, update, new weights at all workers (no training)",
  builder: (yargs) =>
    yargs
      .option("workers", {
        type: "string",
        default: "2,4,8",
        requiresArg: true,
        describe: "Numbers of workers, in turn",
      })
      .option("params", { type: "number", default: 25_000_000, requiresArg: true, describe: "Parameters of the model" })
      .option("rounds", { type: "number", default: 9, requiresArg: true, describe: "Exchanges that count" })
      .option("warmup", { type: "number", default: 2, requiresArg: true, describe: "Exchanges before them" })
      .option("gradients", {
        choices: ["fp32", "bf16"] as const,
        default: "fp32" as const,
        describe: "As parallel.gradients",
      })
      .option("aggregators", AGGREGATORS_OPTION)
      .option("precision", {
        choices: ["fp32", "bf16"] as const,
        default: "fp32" as const,
        describe: "What the workers' steps would compute in, which is how weights may travel",
      })
      .options(WIRE_OPTIONS)
      .option("host", {
        type: "string",
        default: "127.0.0.1",
        requiresArg: true,
        describe: "Address of this network namespace at which those of --namespaces reach it",
      })
      .option("namespaces", {
        type: "string",
        requiresArg: true,
        describe:
          "Network namespaces (ip netns) for workers, and for the aggregators beside them, as a,b,c; needs root",
      })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object a line" })
      .example("$0 bench exchange --workers 8", "25 million parameters, eight workers on this machine"),
  handler: async (given) => {
    const parameterCount = wholeNumber("params", given.params);
    const rounds = wholeNumber("rounds", given.rounds);
    const warmup = wholeNumber("warmup", given.warmup, 0);
    const counts = once("workers", given.workers).split(",").map(Number);
    if (!counts.every((count) => Number.isInteger(count) && count >= 1 && count <= MOST_WORKERS)) {
      const wanted = `give whole numbers from 1 to ${String(MOST_WORKERS)}, as 2,4,8`;
      throw new UserError("USAGE", `--workers ${given.workers}: ${wanted}`);
    }
    for (const workers of counts) {
      const aggregators = aggregatorsOf(given.aggregators, workers);
      const { gradients, precision } = given;
      const namespaces = once("namespaces", given.namespaces)?.split(",") ?? [];
      const where = { host: once("host", given.host), namespaces, precision, wire: wireOf(given) };
      const options = { workers, parameterCount, gradients, aggregators, rounds, warmup, ...where };
      const result = summary(options, await timeExchanges(options));
      process.stdout.write(given.json ? `${JSON.stringify(result)}\n` : line(result));
    }
  },
};

function summary(
  { workers, parameterCount, aggregators }: ExchangeOptions,
  { ms, traffic, busiestBytes, rss }: ExchangeTimes,
): ExchangeBenchmark {
  return {
    workers,
    aggregators,
    params: parameterCount,
    medianMs: median(ms),
    bestMs: Math.min(...ms),
    bytesSent: traffic.sent,
    bytesReceived: traffic.received,
    sharedMemory: traffic.shared,
    busiestBytes,
    rssBytes: rss,
  };
}

function line(result: ExchangeBenchmark): string {
  const { workers, params, medianMs, bestMs, sharedMemory, rssBytes } = result;
  const { bytesSent, bytesReceived, busiestBytes } = result;
  const [sent, received, busiest] = [bytesSent, bytesReceived, busiestBytes].map((bytes) =>
    (bytes / params).toFixed(2),
  );
  const way = sharedMemory
    ? "through shared memory"
    : `each worker ${sent} bytes a parameter out and ${received} in by TCP, the busiest machine ${busiest}`;
  return (
    `${workers} workers, ${params} parameters: ${medianMs.toFixed(1)} ms an exchange (best ${bestMs.toFixed(1)}), ${way}; ` +
    `coordinator ${(rssBytes / 2 ** 20).toFixed(0)} MiB\n`
  );
}
