/** `tandem data`: looking at data sets, and getting them into shape. */
import type { Argv, CommandModule } from "yargs";
import { fetchCommand } from "./data/fetch.js";
import { inspectCommand } from "./data/inspect.js";
import { shardCommand } from "./data/shard.js";

export const dataCommand: CommandModule = {
  command: "data",
  describe: "Get a data set, look at it, write shards: data fetch, data inspect, data shard",
  builder: (yargs: Argv) =>
    yargs
      .command(inspectCommand)
      .command(shardCommand)
      .command(fetchCommand)
      .demandCommand(1, "say what: tandem data inspect, shard or fetch"),
  handler: () => undefined,
};
