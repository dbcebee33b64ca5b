/** `tandem evaluate knn`: how well a checkpoint's features classify a data set. */
import { availableParallelism } from "node:os";
import type { Argv, CommandModule } from "yargs";
import { UserError } from "../protocol/errors.js";
import { openCheckpoint, WHICH_CHECKPOINT } from "./checkpoint.js";
import { finetuneCommand } from "./evaluate-finetune.js";
import { geometryCommand, plotCommand } from "./evaluate-geometry.js";
import { linearCommand } from "./evaluate-linear.js";
import { percent } from "./run-display.js";
import { once } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface KnnArguments {
  readonly checkpoint: string | undefined;
  readonly pixels: boolean;
  readonly data: string | undefined;
  readonly k: number;
  readonly temperature: number;
  readonly "max-train": number | undefined;
  readonly "max-test": number | undefined;
  readonly threads: number;
  readonly json: boolean;
}

const knnCommand: CommandModule<object, KnnArguments> = {
  command: "knn",
  describe: "Accuracy by weighted k-nearest neighbours on the frozen query backbone",
  builder: (yargs) =>
    yargs
      .option("checkpoint", {
        type: "string",
        requiresArg: true,
        describe: WHICH_CHECKPOINT,
      })
      .option("pixels", {
        type: "boolean",
        default: false,
        describe: "Raw pixels instead of a checkpoint's features: what the data set gives away by itself",
      })
      .option("data", { type: "string", requiresArg: true, describe: "Data set; without it, the one trained on" })
      .option("k", { type: "number", default: 200, requiresArg: true, describe: "Neighbours that vote" })
      .option("temperature", { type: "number", default: 0.1, requiresArg: true, describe: "τ of a vote's weight" })
      .option("max-train", { type: "number", requiresArg: true, describe: "Training samples in the bank at most" })
      .option("max-test", { type: "number", requiresArg: true, describe: "Test samples classified at most" })
      .option("threads", { type: "number", default: availableParallelism(), requiresArg: true, describe: "Threads" })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .example("$0 evaluate knn --checkpoint runs/a --data folder:photos --json", "For a script")
      .example("$0 evaluate knn --pixels --data synthetic", "The baseline"),
  handler: async (given) => {
    const numbers = {
      k: given.k,
      "max-train": given["max-train"],
      "max-test": given["max-test"],
      threads: given.threads,
    };
    for (const [name, value] of Object.entries(numbers)) {
      once(name, value);
      if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
        throw new UserError("USAGE", `--${name} ${value}: give a whole number above 0`);
      }
    }
    if (!(given.temperature > 0))
      throw new UserError("USAGE", `--temperature ${given.temperature}: give a number above 0`);
    if (given.pixels === (given.checkpoint !== undefined)) {
      throw new UserError("USAGE", "give either --checkpoint DIR or --pixels");
    }
    if (given.pixels && given.data === undefined)
      throw new UserError("USAGE", "--pixels needs --data: name a data set");
    const opened = given.checkpoint === undefined ? null : await openCheckpoint(once("checkpoint", given.checkpoint));
    const { configureEngine } = await import("../engine/environment.js");
    configureEngine({ threads: given.threads });
    // Only now: the engine reads its environment when it loads.
    const { evaluateKnn } = await import("./evaluate-knn.js");
    const config = opened?.checkpoint.meta.config;
    const result = await evaluateKnn(opened, {
      spec: once("data", given.data) ?? config?.data.spec ?? "",
      neighbours: given.k,
      temperature: given.temperature,
      maxTrain: given["max-train"] ?? config?.evaluation.maxTrain ?? Infinity,
      maxTest: given["max-test"] ?? config?.evaluation.maxTest ?? Infinity,
    });
    const report = { checkpoint: opened?.path ?? null, step: opened?.checkpoint.step ?? null, ...result };
    process.stdout.write(
      given.json
        ? `${JSON.stringify(report)}\n`
        : `kNN accuracy ${percent(result.accuracy)} ${report.step === null ? "on raw pixels" : `at step ${report.step}`} ` +
            `(${result.test} test samples against ${result.train}, k=${result.k}, τ=${given.temperature})\n`,
    );
  },
};

export const evaluateCommand: CommandBody = {
  builder: (yargs: Argv) =>
    yargs
      .command(knnCommand)
      .command(linearCommand)
      .command(finetuneCommand)
      .command(geometryCommand)
      .command(plotCommand)
      .demandCommand(1, "say how: tandem evaluate knn, linear, finetune, geometry or plot"),
  handler: () => undefined,
};
