/** `tandem evaluate geometry` and `plot`: how embeddings lie. */
import type { CommandModule } from "yargs";
import { writeSynced } from "../checkpoint/index.js";
import { UserError } from "../protocol/errors.js";
import { openEvaluation, withEvaluationOptions, withSeed, type EvaluationArguments } from "./evaluation-options.js";
import { writeOutput } from "./output-file.js";
import { pathOf, wholeNumber } from "./run-options.js";

export const geometryCommand: CommandModule<object, EvaluationArguments & { readonly seed: number }> = {
  command: "geometry",
  describe: "Alignment and uniformity of the embeddings on the sphere (Wang and Isola 2020); of both, lower is better",
  builder: (yargs) =>
    withSeed(withEvaluationOptions(yargs)).example(
      "$0 evaluate geometry --checkpoint runs/a",
      "Of the backbone and the projection; no labels are needed",
    ),
  handler: async (given) => {
    const seed = wholeNumber("seed", given.seed, 0);
    const opened = await openEvaluation(given);
    const { evaluateGeometry } = await import("./geometry-evaluation.js");
    const result = await evaluateGeometry(opened, seed);
    const { path, checkpoint } = opened;
    if (given.json) {
      process.stdout.write(`${JSON.stringify({ checkpoint: path, step: checkpoint.step, ...result })}\n`);
      return;
    }
    for (const what of ["features", "projection"] as const) {
      const { alignment, uniformity } = result[what];
      process.stdout.write(
        `${what.padEnd(10)} alignment ${alignment.toFixed(3)}  uniformity ${uniformity.toFixed(3)}\n`,
      );
    }
    process.stdout.write(`of ${result.samples} ${result.split} samples at step ${checkpoint.step}\n`);
  },
};

interface PlotArguments extends EvaluationArguments {
  readonly out: string | undefined;
  readonly projection: boolean;
}

export const plotCommand: CommandModule<object, PlotArguments> = {
  command: "plot",
  describe: "Draw the embeddings' first two principal components, coloured by class, as an SVG file",
  builder: (yargs) =>
    withEvaluationOptions(yargs)
      .option("out", { type: "string", requiresArg: true, describe: "File to write; one that is there is replaced" })
      .option("projection", { type: "boolean", default: false, describe: "Behind the projection head" })
      .example("$0 evaluate plot --checkpoint runs/a --max-test 2000 --out features.svg", "For a browser"),
  handler: async (given) => {
    const out = pathOf("--out", given.out);
    if (out === undefined) throw new UserError("USAGE", "--out is missing: name the file to write, e.g. features.svg");
    if (!out.endsWith(".svg")) throw new UserError("USAGE", `--out ${out}: the plot is an SVG file, so name it ….svg`);
    const opened = await openEvaluation(given);
    const { plotFeatures } = await import("./geometry-evaluation.js");
    const svg = await plotFeatures(opened, given.projection ? "projection" : "features");
    await writeOutput(out, async (temporary) => {
      await writeSynced(temporary, [Buffer.from(svg)]);
    });
    process.stdout.write(given.json ? `${JSON.stringify({ out })}\n` : `${out}\n`);
  },
};
