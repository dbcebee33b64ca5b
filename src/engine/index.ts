/** The engine: tfjs on libtensorflow, plus the kernels that contrastive pretraining needs. */
export { tf } from "./tensorflow.js";
export type { LayersModel, Scalar, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "./tensorflow.js";
export { tidied } from "./tidied.js";
export {
  batchNorm,
  conv2d,
  gatherRows,
  preciseMatMul,
  relu,
  transformImages,
  type BatchNormResult,
} from "./kernels.js";
export { acrossRanks } from "./across-ranks.js";
export { syncBatchNorm } from "./sync-batch-norm.js";
export { embedding, gelu, layerNorm } from "./transformer-kernels.js";
export { nodeBackend } from "./backend.js";
export { compile, CompiledStep, isKept, type CompileOptions, type Precision } from "./compiled/compile.js";
export { CannotCompile, inFullPrecision } from "./compiled/record.js";
export { batchGraphModel, batchSavedModel } from "./compiled/batch-graph.js";
export type { GraphModel } from "./compiled/graph-model.js";
export { readTimestamp, timestamp } from "./clock.js";
export type { StagedRun } from "./compiled/staged-run.js";
export type { TensorTree } from "./compiled/tree.js";
