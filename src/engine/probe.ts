/**
 * Loads the engine and says what it found, as one line of JSON on standard output. `tandem doctor` runs it as a process of
 * its own, because a native library that fails may take the process along.
 */
import { tf } from "./tensorflow.js";
import { nodeBackend } from "./backend.js";

export interface EngineReport {
  readonly tfjsNode: string;
  readonly libtensorflow: string;
  readonly device: "cpu" | "gpu";
  /** Whether a small matrix product came out right. */
  readonly computes: boolean;
}

function probe(): EngineReport {
  const backend = nodeBackend();
  const { TF_Version: libtensorflow } = backend.binding;
  // Three products 1·1, summed.
  const product = tf.tidy(() => tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).dataSync());
  return {
    tfjsNode: (tf.version as unknown as Record<string, string>)["tfjs-node"] ?? "unknown",
    libtensorflow,
    device: backend.isUsingGpuDevice ? "gpu" : "cpu",
    computes: product.every((value) => value === 3),
  };
}

process.stdout.write(`${JSON.stringify(probe())}\n`);
