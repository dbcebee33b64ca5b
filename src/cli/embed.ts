/** `tandem embed`: what an encoder makes of a data set, as a file. */
import { availableParallelism } from "node:os";
import type { Split } from "../data/index.js";
import { EMBEDDING_FORMATS, type EmbeddingFormat } from "../evaluation/embedding-file.js";
import { UserError } from "../protocol/errors.js";
import { openCheckpoint, WHICH_CHECKPOINT } from "./checkpoint.js";
import { ENCODER_SIDES, type EncoderSide } from "./checkpoint-encoder.js";
import { once, pathOf } from "./run-options.js";
import type { CommandBody } from "./commands.js";

interface EmbedArguments {
  readonly checkpoint: string;
  readonly data: string | undefined;
  readonly split: Split;
  readonly out: string | undefined;
  readonly encoder: EncoderSide;
  readonly projection: boolean;
  readonly max: number | undefined;
  readonly threads: number;
}

export const embedCommand: CommandBody<EmbedArguments> = {
  builder: (yargs) =>
    yargs
      .option("checkpoint", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: WHICH_CHECKPOINT,
      })
      .option("data", { type: "string", requiresArg: true, describe: "Data set; without it, the one trained on" })
      .option("split", { choices: ["train", "test"] as const, default: "train" as const, describe: "Split" })
      .option("out", {
        type: "string",
        requiresArg: true,
        describe:
          "File to write; its ending says the format. Beside FILE.npy lie FILE.labels.npy and FILE.jsonl (names)",
      })
      .option("encoder", {
        choices: ENCODER_SIDES,
        default: "query" as const,
        describe: "θq, or its moving average θk",
      })
      .option("projection", {
        type: "boolean",
        default: false,
        describe: "Embeddings behind the projection head, of unit length, instead of the backbone's features",
      })
      .option("max", { type: "number", requiresArg: true, describe: "Samples at most, the first of the split" })
      .option("threads", { type: "number", default: availableParallelism(), requiresArg: true, describe: "Threads" })
      .example("$0 embed --checkpoint runs/a --data folder:photos --out photos.npy", "numpy.load reads it")
      .example("$0 embed --checkpoint runs/a --split test --out test.parquet", "For a data frame"),
  handler: async (given) => {
    const out = pathOf("--out", given.out);
    const format = out === undefined ? undefined : formatOf(out);
    if (out === undefined || format === undefined) {
      const named = out === undefined ? "--out is missing" : `--out ${out}: the ending says no format`;
      throw new UserError("USAGE", `${named}: name a file that ends in .npy, .jsonl or .parquet`);
    }
    for (const name of ["max", "threads"] as const) {
      const value = once(name, given[name]);
      if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
        throw new UserError("USAGE", `--${name} ${value}: give a whole number above 0`);
      }
    }
    const opened = await openCheckpoint(once("checkpoint", given.checkpoint));
    const { configureEngine } = await import("../engine/environment.js");
    configureEngine({ threads: given.threads });
    // Only now: the engine reads its environment when it loads.
    const { writeEmbeddings } = await import("./write-embeddings.js");
    const { count, dimension } = await writeEmbeddings(opened, {
      spec: once("data", given.data) ?? opened.checkpoint.meta.config.data.spec,
      split: once("split", given.split),
      side: once("encoder", given.encoder),
      what: given.projection ? "projection" : "features",
      most: given.max ?? Infinity,
      out,
      format,
    });
    const { step } = opened.checkpoint;
    process.stdout.write(`${out}: ${count} × ${dimension}, float32, ${given.split} split, step ${step}\n`);
  },
};

function formatOf(path: string): EmbeddingFormat | undefined {
  return EMBEDDING_FORMATS.find((format) => path.endsWith(`.${format}`));
}
