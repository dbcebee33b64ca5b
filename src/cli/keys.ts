/** `tandem keys new`: key pairs for a run that is reached over a network. */
import type { Argv, CommandModule } from "yargs";
import { createKeys } from "../transport/index.js";
import { UserError } from "../protocol/errors.js";
import { pathOf } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface NewArguments {
  readonly out: string;
  readonly worker: string[];
}

const newCommand: CommandModule<object, NewArguments> = {
  command: "new",
  describe: "Make a coordinator's keys and workers', one folder each; further workers join an existing coordinator's",
  builder: (yargs) =>
    yargs
      .option("out", { type: "string", default: "keys", requiresArg: true, describe: "Folder for the folders" })
      .option("worker", {
        type: "string",
        array: true,
        default: ["worker"],
        requiresArg: true,
        describe: "Names of workers; machines may share one, and are then let in and shut out together",
      })
      .example("$0 keys new", "keys/coordinator and keys/worker")
      .example("$0 keys new --worker gpu-a gpu-b", "A pair for each machine"),
  handler: async ({ out, worker }) => {
    const names = [...new Set(worker.map(String))];
    if (names.length === 0) throw new UserError("USAGE", "--worker wants a name");
    const folder = pathOf("--out", out) ?? "keys";
    const folders = await createKeys(folder, names);
    process.stdout.write(
      [
        ...folders,
        "next:",
        `  npx tandem coordinator … --listen tcp://ADDRESS:5555 --keys ${folders[0] ?? ""}`,
        `  npx tandem worker --connect tcp://ADDRESS:5555 --keys ${folders[1] ?? ""}    (copy that folder to the worker's machine)`,
        "",
      ].join("\n"),
    );
  },
};

export const keysCommand: CommandBody = {
  builder: (yargs: Argv) => yargs.command(newCommand).demandCommand(1, "say what: tandem keys new"),
  handler: () => undefined,
};
