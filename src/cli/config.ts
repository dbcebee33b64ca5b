/** `tandem config`: the resolved config, every key with its comment. */
import { printConfig } from "../config/index.js";
import { configOf, withRunOptions, type RunArguments } from "./run-options.js";
import type { CommandBody } from "./commands.js";

export const configCommand: CommandBody<RunArguments> = {
  builder: (yargs) =>
    withRunOptions(yargs)
      .example("$0 config --preset cifar10 > run.yaml", "A file to edit, for --config run.yaml")
      .example("$0 config --preset imagenet --set moco.temperature=0.1", "Try a change out before a run"),
  handler: async (given) => {
    process.stdout.write(printConfig(await configOf(given, null)));
  },
};
