/**
 * The engine's fingerprint: sha256 of the gradients of a tiny fixed training step. Two workers with the same fingerprint
 * compute the same bits; one that differs (another processor, another build, another thread count) is refused.
 */
import { createHash } from "node:crypto";
import { tf, type Tensor2D, type Tensor4D } from "../src/engine/index.js";
import { initialParameters, resnet } from "../src/models/index.js";
import { mocoStep, normalise } from "../src/objectives/index.js";
import { Purpose, Stream } from "../src/protocol/philox.js";

const BATCH = 16;
const SIDE = 32;
const NEGATIVES = 64;
const DIMENSION = 32;

/** @returns hex sha256 */
export function engineFingerprint(): string {
  const encoder = resnet({ encoder: "resnet-tiny", stem: "3x3", head: "mlp", embeddingDim: DIMENSION });
  const values = initialParameters(encoder.layout, 0);
  const normals = (length: number, sample: number) => {
    const draws = new Stream(0, { purpose: Purpose.queue, epoch: 1, sample });
    return Float32Array.from({ length }, () => draws.normal());
  };
  const hash = createHash("sha256");
  tf.tidy(() => {
    const parameters = () =>
      encoder.layout.parameters.map(({ offset, size, shape }) =>
        tf.tensor(values.slice(offset, offset + size), [...shape]),
      );
    const views = (sample: number): Tensor4D =>
      tf.tensor4d(normals(BATCH * SIDE * SIDE * 3, sample), [BATCH, SIDE, SIDE, 3]);
    const queue: Tensor2D = normalise(tf.tensor2d(normals(NEGATIVES * DIMENSION, 2), [NEGATIVES, DIMENSION]));
    const result = mocoStep({
      encoder,
      query: parameters(),
      key: parameters(),
      queryViews: views(0),
      keyViews: views(1),
      queue,
      temperature: 0.2,
      bnSplits: 1,
      keyShuffle: null,
    });
    for (const gradient of result.gradients) hash.update(new Uint8Array(gradient.dataSync().buffer));
    tf.dispose(result);
  });
  return hash.digest("hex");
}
