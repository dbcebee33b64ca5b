/** A backbone at rest as a tfjs GraphModel. */
import { normaliseChannels } from "../data/views.js";
import { batchGraphModel, CannotCompile, tf, type GraphModel, type Tensor, type Tensor4D } from "../engine/index.js";
import type { Encoder } from "../models/index.js";
import type { EncoderState } from "../models/pytorch-layout.js";
import { UserError } from "../protocol/errors.js";
import { SOFTWARE_VERSION } from "../protocol/version.js";
import { embed, frozenEncoder } from "./features.js";

/** tfjs's own: small enough for a browser's cache. */
const SHARD_BYTES = 4 * 1024 * 1024;
/** Of the greatest feature: what the model may deviate from the encoder before it is refused. */
const TOLERANCE = 1e-4;
/** Images that both are given; another number than the model was recorded with. */
const PROBES = 5;

export interface NamedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * As `savedEncoder`: `images`, float32 `[N, S, S, 3]` pixels in [0, 255], become `features`, float32 `[N, featureDim]`. What is
 * written has been run, and gave the encoder's features.
 * @param imageSize S
 * @param metadata strings that the model's `userDefinedMetadata` holds
 * @returns `model.json` and the shards of its weights, which `tf.loadGraphModel` reads
 * @throws UserError `EXPORT_TFJS` where tfjs has no such model
 */
export async function tfjsEncoder(
  encoder: Encoder,
  state: EncoderState,
  imageSize: number,
  metadata: Readonly<Record<string, string>>,
): Promise<NamedFile[]> {
  const compute = (images: Tensor) =>
    tf.tidy(() => embed(frozenEncoder(encoder, state), normaliseChannels(images as Tensor4D), "features"));
  const shape = [imageSize, imageSize, 3];
  let model: GraphModel;
  try {
    model = batchGraphModel(compute, shape, { input: "images", output: "features" });
    await check(model, compute, shape);
  } catch (cause) {
    // The graph and tfjs's own reader say in words what they lack.
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    if (!(cause instanceof CannotCompile || cause instanceof RangeError || cause instanceof Mismatch)) throw cause;
    throw new UserError("EXPORT_TFJS", `the encoder cannot be written for tfjs: ${reason}: use --format safetensors`, {
      cause,
    });
  }
  return files(model, metadata);
}

/** The model is none, or another. */
class Mismatch extends Error {
  override readonly name = "Mismatch";
}

/** Loads the model and holds its features against the encoder's. @throws Mismatch */
async function check(model: GraphModel, compute: (images: Tensor) => Tensor, shape: readonly number[]): Promise<void> {
  const { weights, ...described } = model;
  const weightData = weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength) as ArrayBuffer;
  const loaded = await tf.loadGraphModel(tf.io.fromMemory({ ...described, weightData }));
  const images = tf.randomUniform([PROBES, ...shape], 0, 255, "float32", 1);
  try {
    const [deviation, greatest] = tf.tidy(() => {
      const expected = compute(images);
      const given = ran(() => loaded.predict(images) as Tensor);
      return [tf.sub(given, expected), expected].map((values) => tf.max(tf.abs(values)).dataSync()[0]);
    });
    if (!(deviation <= TOLERANCE * greatest)) throw new Mismatch(`its features there are others (by ${deviation})`);
  } finally {
    images.dispose();
    loaded.dispose();
  }
}

/** Operations that tfjs does not know are found when they are run. */
function ran(predict: () => Tensor): Tensor {
  try {
    return predict();
  } catch (cause) {
    throw new Mismatch(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function files(model: GraphModel, userDefinedMetadata: Readonly<Record<string, string>>): NamedFile[] {
  const { modelTopology, signature, weightSpecs, weights } = model;
  const count = Math.max(1, Math.ceil(weights.length / SHARD_BYTES));
  const shards = Array.from({ length: count }, (_, index) => ({
    name: `group1-shard${index + 1}of${count}.bin`,
    bytes: weights.subarray(index * SHARD_BYTES, (index + 1) * SHARD_BYTES),
  }));
  const json = {
    format: "graph-model",
    generatedBy: `tandem ${SOFTWARE_VERSION}`,
    convertedBy: null,
    signature,
    userDefinedMetadata,
    modelTopology,
    weightsManifest: [{ paths: shards.map(({ name }) => name), weights: weightSpecs }],
  };
  return [{ name: "model.json", bytes: Buffer.from(JSON.stringify(json)) }, ...shards];
}
