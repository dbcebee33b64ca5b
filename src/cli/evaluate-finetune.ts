/** `tandem evaluate finetune`: supervised training from a checkpoint. */
import type { CommandModule } from "yargs";
import { UserError } from "../protocol/errors.js";
import {
  openEvaluation,
  shareOf,
  withEvaluationOptions,
  withLabels,
  type EvaluationArguments,
} from "./evaluation-options.js";
import { percent } from "./run-display.js";
import { once, pathOf, wholeNumber } from "./run-options.js";

interface FinetuneArguments extends EvaluationArguments {
  readonly labels: string;
  readonly seed: number;
  readonly head: "linear" | "mlp";
  readonly freeze: boolean;
  readonly epochs: number;
  readonly batch: number;
  readonly "learning-rate": number | undefined;
  readonly "weight-decay": number;
  readonly eager: boolean;
  readonly out: string | undefined;
}

/** SimCLR's rule for fine-tuning (Chen et al. 2020, appendix B.5): 0.05 for each 256 samples of a batch. */
const RATE_PER_256 = 0.05;

export const finetuneCommand: CommandModule<object, FinetuneArguments> = {
  command: "finetune",
  describe: "Train the query backbone with a classifier on labels, in this process, and measure its accuracy",
  builder: (yargs) =>
    withLabels(withEvaluationOptions(yargs))
      .option("head", { choices: ["linear", "mlp"] as const, default: "linear" as const, describe: "Classifier" })
      .option("freeze", { type: "boolean", default: false, describe: "Train the classifier alone" })
      .option("epochs", {
        type: "number",
        default: 30,
        requiresArg: true,
        describe: "Passes over the labelled samples",
      })
      .option("batch", { type: "number", default: 64, requiresArg: true, describe: "Samples in a step" })
      .option("learning-rate", {
        type: "number",
        requiresArg: true,
        describe: "Peak; cosine decay. Without it 0.05 · batch / 256",
      })
      .option("weight-decay", { type: "number", default: 0, requiresArg: true, describe: "L2 penalty" })
      .option("eager", { type: "boolean", default: false, describe: "Run steps operation by operation, to debug" })
      .option("out", {
        type: "string",
        requiresArg: true,
        describe: "Also write the classifier: safetensors with torchvision's names, fc being the head",
      })
      .example("$0 evaluate finetune --checkpoint runs/a --labels 10%", "SimCLR's few-label protocol")
      .epilogue("SGD with Nesterov momentum 0.9; random resized crops and flips; batch norm by batch statistics."),
  handler: async (given) => {
    const batch = wholeNumber("batch", given.batch);
    const options = {
      head: once("head", given.head),
      freeze: given.freeze,
      epochs: wholeNumber("epochs", given.epochs),
      batch,
      learningRate: once("learning-rate", given["learning-rate"]) ?? (RATE_PER_256 * batch) / 256,
      weightDecay: once("weight-decay", given["weight-decay"]),
      seed: wholeNumber("seed", given.seed, 0),
      share: shareOf(given.labels),
    };
    if (!(options.learningRate > 0)) throw new UserError("USAGE", "--learning-rate wants a number above 0");
    if (!(options.weightDecay >= 0)) throw new UserError("USAGE", "--weight-decay wants a number from 0 on");
    const out = pathOf("--out", given.out) ?? null;
    const opened = await openEvaluation(given);
    // Only now: the engine reads its environment when it loads.
    const { evaluateFinetune } = await import("./finetune-evaluation.js");
    const result = await evaluateFinetune(opened, { ...options, eager: given.eager, out });
    const { path, checkpoint } = opened;
    process.stdout.write(
      given.json
        ? `${JSON.stringify({ checkpoint: path, step: checkpoint.step, out, ...options, ...result })}\n`
        : `fine-tuned accuracy ${percent(result.top1)} top-1, ${percent(result.top5)} top-5 from step ${checkpoint.step} ` +
            `(${result.test} test samples, ${result.train} labelled ones, ${options.epochs} ${options.epochs === 1 ? "epoch" : "epochs"}, loss ${result.loss.toFixed(3)})\n`,
    );
  },
};
