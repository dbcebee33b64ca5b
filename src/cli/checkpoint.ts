/** `tandem checkpoint`: verifies a checkpoint and prints what it holds. */
import { basename } from "node:path";
import {
  CHECKPOINT_GROUPS,
  digestsOf,
  latestCheckpoint,
  readCheckpoint,
  type CheckpointState,
} from "../checkpoint/index.js";
import { reproducibility } from "./run-display.js";
import { pathOf } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface CheckpointArguments {
  readonly directory: string;
  readonly json: boolean;
}

const TITLES = { query: "θq", key: "θk", optimizer: "optimizer", buffers: "buffers", queue: "queue" } as const;

/** What a command that wants a checkpoint says of its flag. */
export const WHICH_CHECKPOINT = "A run directory (its latest checkpoint is taken), or one of its checkpoints/step-N";

export const checkpointCommand: CommandBody<CheckpointArguments> = {
  builder: (yargs) =>
    yargs
      .positional("directory", {
        type: "string",
        demandOption: true,
        describe: WHICH_CHECKPOINT,
      })
      .option("json", { type: "boolean", default: false, describe: "Print one JSON object" })
      .example("$0 checkpoint runs/a", "The latest checkpoint of a run")
      .example("$0 checkpoint runs/a/checkpoints/step-100 --json", "A certain one, for a script"),
  handler: async ({ directory, json }) => {
    const { path, checkpoint } = await openCheckpoint(directory);
    const { step, meta, groups } = checkpoint;
    const sums = digestsOf(groups);
    if (json) {
      const { runId, architecture, knn, manifestHash, reproducible } = meta;
      const report = { path, step, runId, architecture, knn, manifestHash, reproducible, sha256: sums };
      process.stdout.write(`${JSON.stringify(report)}\n`);
      return;
    }
    const rows = [
      ["step", String(step)],
      ["run", meta.runId],
      ["encoder", meta.architecture],
      ["kNN", meta.knn === null ? "not measured" : `${(100 * meta.knn).toFixed(1)}%`],
      ["bits", reproducibility(meta.reproducible)],
      ...CHECKPOINT_GROUPS.map((group) => [TITLES[group], `sha256 ${sums[group]}`]),
    ];
    process.stdout.write(`${path}: whole and verified\n`);
    for (const [name = "", value = ""] of rows) process.stdout.write(`${name.padEnd(10)} ${value}\n`);
  },
};

/**
 * @param directory a run directory, or `…/checkpoints/step-N`
 * @throws UserError as `latestCheckpoint` and `readCheckpoint`
 */
export async function openCheckpoint(directory: string): Promise<{ path: string; checkpoint: CheckpointState }> {
  pathOf("the checkpoint's directory", directory);
  const path = /^step-\d+$/.test(basename(directory)) ? directory : await latestCheckpoint(directory);
  return { path, checkpoint: await readCheckpoint(path) };
}
