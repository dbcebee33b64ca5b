/** Encoders and their parameters. */
export { BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM } from "./constants.js";
export { evaluationNorm, trainingNorm, type ForwardContext, type Normalise, type StatisticsSink } from "./forward.js";
export {
  initialBuffers,
  initialParameters,
  type BufferSpec,
  type ParameterLayout,
  type ParameterRole,
  type ParameterSpec,
} from "./parameters.js";
export { resnetArchitecture, type EncoderOptions } from "./architecture.js";
export { resnet, type Encoder } from "./resnet.js";
export { LEAST_SHARD_SIZE, parameterShards, type ParameterShard } from "./shards.js";
export { gradientLength } from "./exchange.js";
