/** The engine: tfjs on libtensorflow, plus the kernels that contrastive pretraining needs. */
export { tf } from "./tensorflow.js";
export type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "./tensorflow.js";
export { batchNorm, conv2d, relu, transformImages, type BatchNormResult } from "./kernels.js";
export { nodeBackend } from "./backend.js";
