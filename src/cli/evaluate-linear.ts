/** `tandem evaluate linear`: a linear classifier on frozen features. */
import type { CommandModule } from "yargs";
import { SOLVERS, type Solver } from "../evaluation/solvers.js";
import {
  openEvaluation,
  shareOf,
  withEvaluationOptions,
  withLabels,
  type EvaluationArguments,
} from "./evaluation-options.js";
import { percent } from "./run-display.js";
import { once, pathOf, wholeNumber } from "./run-options.js";

interface LinearArguments extends EvaluationArguments {
  readonly solver: Solver;
  readonly epochs: number;
  readonly labels: string;
  readonly seed: number;
  readonly augment: number;
  readonly keep: string | undefined;
}

export const linearCommand: CommandModule<object, LinearArguments> = {
  command: "linear",
  describe: "Accuracy of a linear classifier on the frozen query backbone (linear probe)",
  builder: (yargs) =>
    withLabels(withEvaluationOptions(yargs))
      .option("solver", {
        choices: SOLVERS,
        default: "lbfgs" as const,
        describe:
          "lbfgs: penalised logistic regression, to its optimum; sgd: momentum 0.9, cosine decay, no weight decay",
      })
      .option("epochs", {
        type: "number",
        default: 100,
        requiresArg: true,
        describe: "Passes over the features by SGD",
      })
      .option("augment", {
        type: "number",
        default: 0,
        requiresArg: true,
        describe:
          "Beside the centre view (the whole text), so many random crops and flips of each training image (crops of each text); each costs a pass",
      })
      .option("keep", {
        type: "string",
        requiresArg: true,
        describe:
          "Keep features in this folder as they are computed: given again, an evaluation that was cut off goes on",
      })
      .example("$0 evaluate linear --checkpoint runs/a", "Top-1 and top-5 on the test split")
      .example("$0 evaluate linear --checkpoint runs/a --labels 1% --json", "With one label in a hundred")
      .epilogue(
        "Penalty or learning rate are chosen from a sweep on a tenth of the labelled training samples that is held out.",
      ),
  handler: async (given) => {
    const options = {
      solver: once("solver", given.solver),
      epochs: wholeNumber("epochs", given.epochs),
      seed: wholeNumber("seed", given.seed, 0),
      share: shareOf(given.labels),
      copies: wholeNumber("augment", given.augment, 0),
    };
    const opened = await openEvaluation(given);
    // Only now: the engine reads its environment when it loads.
    const { evaluateLinear } = await import("./linear-evaluation.js");
    const result = await evaluateLinear(opened, { ...options, keep: pathOf("--keep", given.keep) ?? null });
    const { path, checkpoint } = opened;
    if (given.json) {
      const report = { checkpoint: path, step: checkpoint.step, ...options, ...result };
      process.stdout.write(`${JSON.stringify(report)}\n`);
      return;
    }
    const tuned = options.solver === "lbfgs" ? "λ" : "learning rate";
    process.stdout.write(
      `linear accuracy ${percent(result.top1)} top-1, ${percent(result.top5)} top-5 at step ${checkpoint.step} ` +
        `(${result.test} test samples, ${result.train} labelled ones; ${options.solver}, ${tuned} ${result.chosen})\n`,
    );
  },
};
