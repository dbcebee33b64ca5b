/** Weights from elsewhere for an encoder's backbone: torchvision's and timm's names, and those of MoCo's own checkpoints. */
import type { NamedTensor } from "../checkpoint/index.js";
import type { ParameterLayout } from "./parameters.js";
import { fromPytorch, isHead, pytorchShape, type EncoderState } from "./pytorch-layout.js";

/** Where facebookresearch/moco and moco-v3 keep the encoder that was trained by gradients; then its moving average. */
const ENCODERS = ["", "encoder_q.", "base_encoder.", "encoder_k.", "momentum_encoder."] as const;
/** Wrappers put their own name in front: DistributedDataParallel's, and common ones of training programs. */
const WRAPPERS = ["", "module.", "model.", "backbone."] as const;

export interface ShapeMismatch {
  readonly name: string;
  /** in PyTorch's layout */
  readonly wanted: readonly number[];
  readonly given: readonly number[];
}

/** How names fared; all are the encoder's own, without the file's prefix, except `elsewhere`. */
export interface ImportReport {
  /** what stood in front of the encoder's names */
  readonly prefix: string;
  readonly matched: readonly string[];
  /** of the backbone, not in the file: drawn as without it */
  readonly missing: readonly string[];
  /** behind the prefix, and nothing of this backbone's; a classifier or projection head among them */
  readonly unexpected: readonly string[];
  readonly mismatched: readonly ShapeMismatch[];
  /** names in the file that do not begin with the prefix: another encoder, a queue */
  readonly elsewhere: number;
}

/**
 * Heads are left as they are: a new task gets a new one.
 * @param start the state at step 0 without imported weights
 * @returns a new state; what is missing or of another shape is `start`'s
 */
export function importWeights(
  layout: ParameterLayout,
  start: EncoderState,
  tensors: readonly NamedTensor[],
): { readonly state: EncoderState; readonly report: ImportReport } {
  const parameters = layout.parameters.filter(({ name }) => !isHead(name));
  const buffers = layout.buffers.filter(({ name }) => !isHead(name));
  const wanted = new Set([...parameters, ...buffers].map(({ name }) => name));
  const prefix = prefixOf(tensors, wanted);
  const own = tensors.filter(({ name }) => name.startsWith(prefix));
  const byName = new Map(own.map((tensor) => [tensor.name.slice(prefix.length), tensor]));
  const state = { parameters: start.parameters.slice(), buffers: start.buffers.slice() };
  const [matched, missing]: [string[], string[]] = [[], []];
  const mismatched: ShapeMismatch[] = [];
  const take = (name: string, shape: readonly number[], put: (values: Float32Array) => void) => {
    const given = byName.get(name);
    if (given === undefined) missing.push(name);
    else if (!(given.data instanceof Float32Array) || given.shape.join() !== shape.join()) {
      mismatched.push({ name, wanted: shape, given: given.shape });
    } else {
      matched.push(name);
      put(given.data);
    }
  };
  for (const spec of parameters) {
    take(spec.name, pytorchShape(spec), (values) => state.parameters.set(fromPytorch(spec, values), spec.offset));
  }
  for (const { name, size, offset } of buffers) take(name, [size], (values) => state.buffers.set(values, offset));
  const unexpected = [...byName.keys()].filter((name) => !wanted.has(name) && !name.endsWith("num_batches_tracked"));
  const elsewhere = tensors.length - own.length;
  return { state, report: { prefix, matched, missing, unexpected, mismatched, elsewhere } };
}

/** The prefix behind which most of the wanted names are found; of several, the first in the order above. */
function prefixOf(tensors: readonly NamedTensor[], wanted: ReadonlySet<string>): string {
  const names = tensors.map(({ name }) => name);
  const found = (prefix: string) =>
    names.filter((name) => name.startsWith(prefix) && wanted.has(name.slice(prefix.length))).length;
  let best = { prefix: "", count: 0 };
  for (const encoder of ENCODERS) {
    for (const wrapper of WRAPPERS) {
      const prefix = wrapper + encoder;
      const count = found(prefix);
      if (count > best.count) best = { prefix, count };
    }
  }
  return best.prefix;
}
