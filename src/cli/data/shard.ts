/** `tandem data shard`: a data set as WebDataset tar shards with an index. */
import type { CommandModule } from "yargs";
import {
  type ImageDataset,
  labelledLength,
  nativeSide,
  openImages,
  parseDataSpec,
  writeShards,
} from "../../data/index.js";
import { UserError } from "../../protocol/errors.js";
import { once, pathOf } from "../run-options.js";
import { shellWord } from "../../config/shell-word.js";
import { stopSignal } from "../stop-signal.js";
import { withNewFolder } from "./new-folder.js";

interface ShardArguments {
  readonly spec: string;
  readonly out: string;
  readonly "shard-size": number;
}

/** Files are copied, so no picture is decoded; the data set wants a size all the same. */
const ANY_SIDE = 32;

export const shardCommand: CommandModule<object, ShardArguments> = {
  command: "shard <spec>",
  describe: "Write a data set as tar shards (WebDataset) with an index; --data webdataset:FOLDER reads them",
  builder: (yargs) =>
    yargs
      .positional("spec", { type: "string", demandOption: true, describe: "A data set, as --data takes it" })
      .option("out", { type: "string", demandOption: true, requiresArg: true, describe: "New folder for the shards" })
      .option("shard-size", { type: "number", default: 1000, requiresArg: true, describe: "Samples in a shard" })
      .example("$0 data shard folder:photos --out shards", "shards/train-000000.tar, …, and shards/index.json"),
  handler: async (given) => {
    const spec = once("the data set", given.spec);
    const out = pathOf("--out", given.out) ?? given.out;
    const shardSize = once("shard-size", given["shard-size"]);
    if (!Number.isInteger(shardSize) || shardSize < 1) {
      throw new UserError("USAGE", `--shard-size ${shardSize}: give a whole number above 0`);
    }
    const dataset = await openImages(spec, { decodeSize: nativeSide(parseDataSpec(spec)) ?? ANY_SIDE });
    if (dataset.keys !== undefined) {
      throw new UserError(
        "DATA_PAIRS",
        `data ${spec} holds pairs, and a shard's sample is one picture: train on them as they are`,
      );
    }
    refuseMixedLabels(dataset, spec);
    const signal = stopSignal();
    try {
      const splits = await withNewFolder(out, (folder) =>
        writeShards(dataset, {
          folder,
          shardSize,
          signal,
          onShard: ({ name, samples }) => process.stderr.write(`tandem: ${name}: ${samples} samples\n`),
        }),
      );
      const count = (shards: readonly unknown[]) => `${shards.length} ${shards.length === 1 ? "shard" : "shards"}`;
      process.stdout.write(
        `${out}: ${dataset.splits.train.length} training samples in ${count(splits.train)}, ` +
          `${dataset.splits.test.length} test samples in ${count(splits.test)}\n` +
          `next:\n  npx tandem train --data ${shellWord(`webdataset:${out}`)}\n`,
      );
    } catch (error) {
      if (signal.aborted) throw new UserError("STOPPED", `stopped: nothing is left of "${out}"`, { cause: error });
      throw error;
    }
  },
};

/** @throws UserError `DATA_MIXED_LABELS` where some samples have a label: shards of these would not be read */
function refuseMixedLabels({ splits }: ImageDataset, spec: string): void {
  const all = Object.values(splits);
  const count = all.reduce((sum, { length }) => sum + length, 0);
  const labelled = all.reduce((sum, source) => sum + labelledLength(source), 0);
  if (labelled === 0 || labelled === count) return;
  throw new UserError(
    "DATA_MIXED_LABELS",
    `${count - labelled} of the ${count} samples of ${spec} have no label, and shards hold all labels or none: ` +
      "choose one or the other, e.g. split=unlabeled",
  );
}
