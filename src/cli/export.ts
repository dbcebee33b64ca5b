/** `tandem export`: a run's encoder for use elsewhere, in PyTorch, TensorFlow or tfjs. */
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { digestsOf, encodeSafetensors, writeSynced, type CheckpointState } from "../checkpoint/index.js";
import { modalityOf } from "../config/index.js";
import { architectureOf } from "../models/architecture.js";
import { pytorchState } from "../models/pytorch-layout.js";
import { UserError } from "../protocol/errors.js";
import { openCheckpoint, WHICH_CHECKPOINT } from "./checkpoint.js";
import { ENCODER_SIDES, encoderStateOf, type EncoderSide } from "./checkpoint-encoder.js";
import { writeOutput } from "./output-file.js";
import { once, pathOf } from "./run-options.js";
import type { CommandBody } from "./commands.js";

const FORMATS = ["safetensors", "savedmodel", "tfjs"] as const;

interface ExportArguments {
  readonly checkpoint: string;
  readonly format: (typeof FORMATS)[number];
  readonly out: string | undefined;
  readonly encoder: EncoderSide;
  readonly "with-head": boolean;
}

export const exportCommand: CommandBody<ExportArguments> = {
  builder: (yargs) =>
    yargs
      .option("checkpoint", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: WHICH_CHECKPOINT,
      })
      .option("format", {
        type: "string",
        choices: FORMATS,
        default: "safetensors" as const,
        describe:
          "safetensors: a file for PyTorch; savedmodel, tfjs: a folder for TensorFlow or tf.loadGraphModel, from pixels to features",
      })
      .option("out", {
        type: "string",
        requiresArg: true,
        describe: "File to write, or replace; a new folder with savedmodel or tfjs",
      })
      .option("encoder", {
        choices: ENCODER_SIDES,
        default: "query" as const,
        describe: "θq, or its moving average θk",
      })
      .option("with-head", {
        type: "boolean",
        default: false,
        describe: "Also the projection head (and prediction head), under MoCo's names: fc.0, fc.2, …",
      })
      .example("$0 export --checkpoint runs/a --out encoder.safetensors", "The query backbone")
      .epilogue(
        "In Python: model = torchvision.models.resnet18(); model.fc = torch.nn.Identity(); " +
          "model.load_state_dict(safetensors.torch.load_file(FILE), strict=True). See docs/downstream.md.",
      ),
  handler: async (given) => {
    const out = pathOf("--out", given.out);
    if (out === undefined) throw new UserError("USAGE", "--out is missing: name the file to write");
    const side = once("encoder", given.encoder);
    const { path, checkpoint } = await openCheckpoint(once("checkpoint", given.checkpoint));
    const withHead = given["with-head"];
    const format = once("format", given.format);
    if (format !== "safetensors") {
      if (withHead) throw new UserError("USAGE", "--with-head goes with --format safetensors alone");
      await writeModel(format, out, checkpoint, side, path);
      return;
    }
    const { layout } = await architectureOf(checkpoint.meta.config);
    const tensors = pytorchState(layout, encoderStateOf(checkpoint, layout, side, path), {
      withHead,
      step: checkpoint.step,
    });
    const parts = encodeSafetensors(tensors, metadataOf(checkpoint, side));
    await writeOutput(out, async (temporary) => {
      await writeSynced(temporary, parts);
    });
    const values = tensors.reduce((sum, { data }) => sum + data.length, 0);
    process.stdout.write(
      `${out}: ${tensors.length} tensors, ${values} values: the ${side} encoder ${checkpoint.meta.architecture} ` +
        `${withHead ? "with its head " : ""}at step ${checkpoint.step}\n`,
    );
  },
};

/** @throws UserError `OUTPUT` where the folder is there already: one that holds files is not replaced */
async function writeModel(
  format: "savedmodel" | "tfjs",
  out: string,
  checkpoint: CheckpointState,
  side: EncoderSide,
  path: string,
): Promise<void> {
  const { config, architecture } = checkpoint.meta;
  if (modalityOf(config) === "text") {
    throw new UserError(
      "EXPORT_TEXT",
      `--format ${format} writes encoders of images, and ${config.model.encoder} reads texts: use --format safetensors`,
    );
  }
  const { configureEngine } = await import("../engine/environment.js");
  configureEngine({ threads: availableParallelism(), device: "cpu" });
  // Only now: the engine reads its environment when it loads.
  const { savedEncoder } = await import("../evaluation/saved-encoder.js");
  const { tfjsEncoder } = await import("../evaluation/tfjs-encoder.js");
  const { encoderOf } = await import("../models/index.js");
  const encoder = await encoderOf(config);
  const { imageSize } = config.data;
  const state = encoderStateOf(checkpoint, encoder.layout, side, path);
  const files =
    format === "tfjs"
      ? await tfjsEncoder(encoder, state, imageSize, sourceOf(checkpoint, side))
      : [{ name: "saved_model.pb", bytes: savedEncoder(encoder, state, imageSize) }];
  await writeOutput(out, async (temporary) => {
    await mkdir(temporary);
    for (const { name, bytes } of files) await writeSynced(join(temporary, name), [bytes]);
  });
  process.stdout.write(
    `${out}: images [N, ${imageSize}, ${imageSize}, 3], 0 to 255 → features [N, ${encoder.featureDim}]: the ${side} ` +
      `backbone ${architecture} at step ${checkpoint.step}\n`,
  );
}

/** `format` is what Python's libraries look for. */
function metadataOf(checkpoint: CheckpointState, side: EncoderSide): Record<string, string> {
  return { format: "pt", ...sourceOf(checkpoint, side) };
}

/** Where the weights are from. */
function sourceOf({ step, meta, groups }: CheckpointState, side: EncoderSide): Record<string, string> {
  return {
    source: "tandem",
    run: meta.runId,
    step: String(step),
    encoder: side,
    architecture: meta.architecture,
    sha256: digestsOf(groups)[side],
    config: JSON.stringify(meta.config),
  };
}
