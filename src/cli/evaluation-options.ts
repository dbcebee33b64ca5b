/** Flags that the ways to evaluate a checkpoint share. */
import { availableParallelism } from "node:os";
import type { Argv } from "yargs";
import type { CheckpointState } from "../checkpoint/index.js";
import { UserError } from "../protocol/errors.js";
import { openCheckpoint, WHICH_CHECKPOINT } from "./checkpoint.js";
import { once, wholeNumber } from "./run-options.js";

export interface EvaluationArguments {
  readonly checkpoint: string;
  readonly data: string | undefined;
  readonly "max-train": number | undefined;
  readonly "max-test": number | undefined;
  readonly threads: number;
  readonly json: boolean;
}

export function withEvaluationOptions<T>(yargs: Argv<T>): Argv<T & EvaluationArguments> {
  return yargs
    .option("checkpoint", {
      type: "string",
      demandOption: true,
      requiresArg: true,
      describe: WHICH_CHECKPOINT,
    })
    .option("data", { type: "string", requiresArg: true, describe: "Data set; without it, the one trained on" })
    .option("max-train", { type: "number", requiresArg: true, describe: "Training samples at most" })
    .option("max-test", { type: "number", requiresArg: true, describe: "Test samples at most" })
    .option("threads", { type: "number", default: availableParallelism(), requiresArg: true, describe: "Threads" })
    .option("json", { type: "boolean", default: false, describe: "Print one JSON object" });
}

export interface OpenedEvaluation {
  readonly path: string;
  readonly checkpoint: CheckpointState;
  readonly spec: string;
  /** samples at most; Infinity: all */
  readonly maxTrain: number;
  readonly maxTest: number;
}

/** Reads the checkpoint and sets the engine up; whatever loads the engine is imported only behind it. */
export async function openEvaluation(given: EvaluationArguments): Promise<OpenedEvaluation> {
  const maxTrain = wholeNumber("max-train", given["max-train"]) ?? Infinity;
  const maxTest = wholeNumber("max-test", given["max-test"]) ?? Infinity;
  const threads = wholeNumber("threads", given.threads) ?? 1;
  const { path, checkpoint } = await openCheckpoint(once("checkpoint", given.checkpoint));
  const { configureEngine } = await import("../engine/environment.js");
  configureEngine({ threads });
  const spec = once("data", given.data) ?? checkpoint.meta.config.data.spec;
  return { path, checkpoint, spec, maxTrain, maxTest };
}

export function withSeed<T>(yargs: Argv<T>) {
  return yargs.option("seed", { type: "number", default: 0, requiresArg: true, describe: "Seed of every random draw" });
}

export function withLabels<T>(yargs: Argv<T>) {
  return withSeed(yargs).option("labels", {
    type: "string",
    default: "100%",
    requiresArg: true,
    describe: "Share of the training samples whose labels are used, class by class: 1%, 10%, …",
  });
}

/** @returns share in (0, 1]. @throws UserError */
export function shareOf(given: string): number {
  const [, number] = /^(\d+(?:\.\d+)?)%$/.exec(once("labels", given)) ?? [];
  const share = Number(number) / 100;
  if (share > 0 && share <= 1) return share;
  throw new UserError("USAGE", `--labels ${given}: give a percentage above 0%, such as 1% or 10%`);
}
