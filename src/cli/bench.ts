/** `tandem bench step`: how fast one worker trains, by real steps between a coordinator and a worker process. */
import { availableParallelism } from "node:os";
import type { Argv, CommandModule } from "yargs";
import type { StepReport } from "../../coordinator/server.js";
import { resolveConfig, type RunConfig } from "../config/index.js";
import { exchangeCommand } from "./bench-exchange.js";
import { loaderCommand } from "./bench-loader.js";
import { scalingCommand } from "./bench-scaling.js";
import { devicesOf, type Devices } from "./device-choice.js";
import { median } from "./median.js";
import { passingRun } from "./passing-run.js";
import { configOf, once, wholeNumber, withRunOptions, type RunArguments } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface BenchArguments extends RunArguments {
  readonly measured: number;
  readonly warmup: number;
  readonly device: string;
  readonly json: boolean;
}

/** One step as measured from outside: the time since the step before it ended. */
interface MeasuredStep extends StepReport {
  readonly wallMs: number;
}

export interface StepBenchmark {
  readonly encoder: string;
  readonly batch: number;
  readonly threads: number;
  readonly precision: RunConfig["engine"]["precision"];
  readonly mode: RunConfig["engine"]["mode"];
  readonly steps: number;
  /** medians */
  readonly imagesPerSecond: number;
  readonly stepMs: number;
  /** of a step's time, in [0, 1]; the first four add up to 1 */
  readonly share: {
    readonly loading: number;
    readonly forward: number;
    readonly backward: number;
    /** everything else: weights, keys and gradients on their way, the update, waiting */
    readonly exchange: number;
    /** of forward and backward, what is not TensorFlow's graph: tensors made and read, sums; null when running eagerly */
    readonly overhead: number | null;
  };
}

const stepCommand: CommandModule<object, BenchArguments> = {
  command: "step",
  describe: "Time MoCo steps of one worker (preset cifar10, a world of one rank)",
  builder: (yargs) =>
    withRunOptions(yargs, ["encoder", "batch", "threads", "precision", "eager", "data", "set"])
      .option("measured", { type: "number", default: 10, requiresArg: true, describe: "Steps that count" })
      .option("warmup", { type: "number", default: 3, requiresArg: true, describe: "Steps before them" })
      .option("device", { type: "string", default: "auto", requiresArg: true, describe: "Device of the worker" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object as the last line" })
      .example("$0 bench step --encoder resnet18 --batch 64", "Images per second of ResNet-18")
      .example("$0 bench step --encoder resnet-tiny --batch 256 --json", "… as JSON"),
  handler: async (given) => {
    wholeNumber("measured", given.measured);
    wholeNumber("warmup", given.warmup, 0);
    const threads = given.threads ?? availableParallelism();
    const asked = await configOf({ ...given, preset: "cifar10", threads }, null);
    const { batchSize } = asked.parallel;
    // Two steps an epoch: from the third on, images come from the loader's cache, as in any epoch but a run's first.
    const spec = given.data ?? `synthetic:train=${2 * batchSize}`;
    const config = await resolveConfig({
      base: asked,
      overrides: {
        "data.spec": spec,
        "parallel.worldSize": 1,
        "parallel.workers": 1,
        "schedule.steps": given.warmup + given.measured,
        "evaluation.everyEpochs": 0,
        "checkpoint.everySteps": 0,
      },
    });
    const result = await benchmark(config, devicesOf(once("device", given.device), undefined), given.warmup);
    const { share } = result;
    const { overhead, ...parts } = share;
    const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
    const percents = Object.entries(parts).map(([name, value]) => `${name} ${percent(value)}`);
    if (overhead !== null) percents.push(`of forward and backward, outside TensorFlow: ${percent(overhead)}`);
    process.stdout.write(
      given.json
        ? `${JSON.stringify(result)}\n`
        : `${result.encoder}, batch ${result.batch}, ${result.threads} threads, ${result.mode}, ${result.precision}: ` +
            `${result.imagesPerSecond.toFixed(1)} images/s, ${result.stepMs.toFixed(1)} ms a step (${percents.join(", ")})\n`,
    );
  },
};

export const benchCommand: CommandBody = {
  builder: (yargs: Argv) =>
    yargs
      .command(stepCommand)
      .command(loaderCommand)
      .command(exchangeCommand)
      .command(scalingCommand)
      .demandCommand(1, "say what: tandem bench step, loader, exchange or scaling"),
  handler: () => undefined,
};

async function benchmark(config: RunConfig, devices: Devices, warmup: number): Promise<StepBenchmark> {
  const steps: MeasuredStep[] = [];
  let before = performance.now();
  await passingRun({
    ...{ config, devices, aggregators: null, overlaps: true },
    wire: { weights: "auto", sharesMemory: true },
    observer: {
      stepDone: (report) => {
        const now = performance.now();
        steps.push({ ...report, wallMs: now - before });
        before = now;
      },
    },
  });
  return summary(config, steps.slice(warmup));
}

function summary({ model, parallel, engine }: RunConfig, steps: readonly MeasuredStep[]): StepBenchmark {
  const stepMs = median(steps.map(({ wallMs }) => wallMs));
  const share = (of: (step: MeasuredStep) => number) => median(steps.map((step) => of(step) / step.wallMs));
  const loading = share(({ loadMs }) => loadMs);
  const forward = share(({ forwardMs }) => forwardMs);
  const backward = share(({ backwardMs }) => backwardMs);
  const isCompiled = steps.every(({ graphMs }) => graphMs > 0);
  const overhead = isCompiled ? share(({ forwardMs, backwardMs, graphMs }) => forwardMs + backwardMs - graphMs) : null;
  return {
    encoder: model.encoder,
    batch: parallel.batchSize,
    threads: parallel.threads,
    precision: engine.precision,
    mode: engine.mode,
    steps: steps.length,
    imagesPerSecond: (parallel.batchSize / stepMs) * 1000,
    stepMs,
    share: { loading, forward, backward, exchange: 1 - loading - forward - backward, overhead },
  };
}
