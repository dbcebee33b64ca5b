/**
 * The engine's fingerprint: sha256 of the gradients of a tiny fixed training step, run as the run's steps are. Two workers
 * with the same fingerprint compute the same bits; one that differs (another processor, another build, another thread
 * count, eager instead of compiled) is refused.
 */
import { createHash } from "node:crypto";
import type { RunConfig } from "../src/config/schema.js";
import { compile, tf, type Tensor, type Tensor2D, type Tensor4D } from "../src/engine/index.js";
import { OWN_BATCH, initialParameters, resnet } from "../src/models/index.js";
import { moco, normalise, type StepInput } from "../src/objectives/index.js";
import type { PreparedStep } from "./rank-step.js";
import { Purpose, Stream } from "../src/protocol/philox.js";

const BATCH = 16;
const SIDE = 16;
const NEGATIVES = 64;
const DIMENSION = 32;
const TEMPERATURE = 0.2;

/** (A type, since tfjs takes no interface for a container of tensors.) */
type Inputs = Pick<StepInput, "query" | "key" | "queryViews" | "keyViews"> & { readonly queue: Tensor2D };

/**
 * @param mode how the run's steps run on this worker, which may be eagerly although the config says compiled
 * @returns hex sha256
 */
export async function engineFingerprint(
  { precision }: RunConfig["engine"],
  mode: PreparedStep["mode"],
): Promise<string> {
  const encoder = resnet({ encoder: "resnet-tiny", stem: "3x3", head: "mlp", embeddingDim: DIMENSION });
  const values = initialParameters(encoder.layout, 0);
  const normals = (length: number, sample: number) => {
    const draws = new Stream(0, { purpose: Purpose.queue, epoch: 1, sample });
    return Float32Array.from({ length }, () => draws.normal());
  };
  const parameters = () =>
    encoder.layout.parameters.map(({ offset, size, shape }) =>
      tf.tensor(values.slice(offset, offset + size), [...shape]),
    );
  const views = (sample: number): Tensor4D =>
    tf.tensor4d(normals(BATCH * SIDE * SIDE * 3, sample), [BATCH, SIDE, SIDE, 3]);
  const inputs: Inputs = {
    query: parameters(),
    key: parameters(),
    queryViews: views(0),
    keyViews: views(1),
    queue: tf.tidy(() => normalise(tf.tensor2d(normals(NEGATIVES * DIMENSION, 2), [NEGATIVES, DIMENSION]))),
  };
  const plain = { temperature: TEMPERATURE, batchNorm: OWN_BATCH, keyShuffle: null, exchanged: null, labels: null };
  const gradients = (given: Inputs): Tensor[] =>
    tf.tidy(() => moco(TEMPERATURE).step({ ...given, ...plain, encoder }).gradients);
  const hash = createHash("sha256").update(mode);
  const add = (results: readonly Tensor[]) => {
    for (const gradient of results) hash.update(new Uint8Array(gradient.dataSync().buffer));
    tf.dispose([...results]);
  };
  if (mode === "eager") add(gradients(inputs));
  else {
    const step = await compile(gradients, inputs, { precision, identity: "fingerprint" });
    add(step.run(inputs));
    step.dispose();
  }
  tf.dispose(inputs as never);
  return hash.digest("hex");
}
