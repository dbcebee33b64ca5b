/** Encoders and their parameters. */
export { BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM } from "./constants.js";
export {
  evaluationNorm,
  OWN_BATCH,
  trainingNorm,
  type BatchNormScope,
  type ForwardContext,
  type Normalise,
  type StatisticsSink,
} from "./forward.js";
export {
  initialBuffers,
  initialParameters,
  isDecayed,
  type BufferSpec,
  type ParameterLayout,
  type ParameterRole,
  type ParameterSpec,
} from "./parameters.js";
export { architectureOf, type Architecture, type EncoderConfig } from "./architecture.js";
export type { Encoder, Views } from "./encoder.js";
export { encoderOf } from "./encoder-of.js";
export { resnetArchitecture, type ResnetOptions } from "./resnet-architecture.js";
export { resnet } from "./resnet.js";
export { textEncoder, textRows } from "./text-encoder.js";
export { textTransformer, type TextTransformer, type Texts } from "./text-transformer.js";
export { visionTransformer } from "./vit.js";
export { LEAST_BUCKET_SIZE, parameterBuckets } from "./buckets.js";
export { parameterShards, type ParameterShard } from "./shards.js";
export { gradientLength, gradientSlice } from "./exchange.js";
