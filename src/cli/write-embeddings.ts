/** The work of `tandem embed`. Loads the engine. */
import { writeSynced, type CheckpointState } from "../checkpoint/index.js";
import { openRunDataset, type Split } from "../data/index.js";
import { openSink, type EmbeddingFormat } from "../evaluation/embedding-file.js";
import { encoderExtractor, featureBatches } from "../evaluation/extract.js";
import { frozenEncoder, type Embedding } from "../evaluation/features.js";
import { npyHeader } from "../evaluation/npy.js";
import { encoderOf } from "../models/index.js";
import { UserError } from "../protocol/errors.js";
import { encoderStateOf, type EncoderSide } from "./checkpoint-encoder.js";
import { writeOutput } from "./output-file.js";
import { warn } from "./run-display.js";

export interface EmbedRequest {
  readonly spec: string;
  readonly split: Split;
  readonly side: EncoderSide;
  readonly what: Embedding;
  /** samples at most */
  readonly most: number;
  readonly out: string;
  readonly format: EmbeddingFormat;
}

/** @throws UserError `DATA_SPLIT_EMPTY` where there is nothing to embed */
export async function writeEmbeddings(
  { path, checkpoint }: { readonly path: string; readonly checkpoint: CheckpointState },
  { spec, split, side, what, most, out, format }: EmbedRequest,
): Promise<{ readonly count: number; readonly dimension: number }> {
  const { config } = checkpoint.meta;
  const encoder = await encoderOf(config);
  const frozen = frozenEncoder(encoder, encoderStateOf(checkpoint, encoder.layout, side, path));
  const extractor = encoderExtractor(frozen, config, what);
  const dataset = await openRunDataset(spec, config);
  const source = dataset.splits[split];
  const count = Math.min(most, source.length);
  const { dimension } = extractor;
  if (count === 0)
    throw new UserError("DATA_SPLIT_EMPTY", `data ${spec} has no ${split} split: choose another --split`);
  const labels = new Int32Array(count);
  const index: string[] = [];
  await writeOutput(out, async (temporary) => {
    const sink = await openSink(temporary, format, { count, dimension });
    try {
      for await (const { start, features, samples } of featureBatches(extractor, dataset, split, most, warn)) {
        const rows = Array.from(samples, (sample) => {
          const label = source.labels[sample];
          return { name: source.nameOf(sample), label, className: label < 0 ? null : dataset.classes[label] };
        });
        await sink.write(rows, features);
        rows.forEach(({ name, label, className }, row) => {
          labels[start + row] = label;
          index.push(`${JSON.stringify({ name, label, class: className })}\n`);
        });
      }
      await sink.finish();
    } finally {
      await sink.close();
    }
    // Before the features are there under their name, what belongs to them is.
    if (format === "npy") await writeSidecars(out.slice(0, -".npy".length), labels, index);
  });
  return { count, dimension };
}

/** Labels, int32 `[N]`, and names, a line a row. */
async function writeSidecars(stem: string, labels: Int32Array, index: readonly string[]): Promise<void> {
  const values = new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength);
  await writeOutput(`${stem}.labels.npy`, async (temporary) => {
    await writeSynced(temporary, [npyHeader("int32", [labels.length]), values]);
  });
  await writeOutput(`${stem}.jsonl`, async (temporary) => {
    await writeSynced(temporary, [Buffer.from(index.join(""))]);
  });
}
