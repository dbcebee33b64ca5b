/** The one place that loads tfjs-node. */
import { createRequire } from "node:module";
import util from "node:util";

// tfjs-node 4.22 calls two functions that Node 23 removed.
const legacy = util as unknown as Record<string, unknown>;
legacy["isNullOrUndefined"] ??= (value: unknown) => value === null || value === undefined;
legacy["isArray"] ??= Array.isArray;

type TensorFlow = typeof import("@tensorflow/tfjs-node-gpu");

function load(): TensorFlow {
  // tfjs prints a banner through console.warn when it finds itself in Node twice; nothing else is printed on load.
  const loaded = createRequire(import.meta.url)("@tensorflow/tfjs-node-gpu") as TensorFlow;
  // A thread that ends before TensorFlow has executed anything takes the process along (2.21: a segmentation fault).
  loaded.tidy(() => loaded.add(1, 1).dataSync());
  return loaded;
}

export const tf: TensorFlow = load();
export type { LayersModel, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D, Scalar } from "@tensorflow/tfjs-node-gpu";
