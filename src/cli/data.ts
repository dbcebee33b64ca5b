/** `tandem data`: looking at data sets, and getting them into shape. */
import type { Argv } from "yargs";
import { fetchCommand } from "./data/fetch.js";
import { inspectCommand } from "./data/inspect.js";
import { shardCommand } from "./data/shard.js";
import type { CommandBody } from "./commands.js";

export const dataCommand: CommandBody = {
  builder: (yargs: Argv) =>
    yargs
      .command(inspectCommand)
      .command(shardCommand)
      .command(fetchCommand)
      .demandCommand(1, "say what: tandem data inspect, shard or fetch"),
  handler: () => undefined,
};
