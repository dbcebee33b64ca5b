/** Data: from a `SPEC` to the batches of each step and rank. Nothing here loads the engine (`views.js`, which does, is apart). */
export { type OnCorrupt, readBatch } from "./batch.js";
export { cacheDecoded } from "./cache.js";
export { CorruptLimit } from "./corrupt-limit.js";
export {
  CorruptSampleError,
  type Dataset,
  type ImageDataset,
  type ImageSource,
  isFileSource,
  labelledLength,
  type SampleSource,
  type Split,
  type TextDataset,
  type TextSource,
} from "./dataset.js";
export { DRAW, DRAW_FLOATS, drawViews, type View } from "./draws.js";
export {
  inspectDataset,
  type DatasetReport,
  type ImageSplitReport,
  type Spread,
  type TextSplitReport,
} from "./inspect.js";
export { type Batch, type BatchUse, Loader } from "./loader.js";
export {
  imageViews,
  openRunDataset,
  openRunImages,
  readSamples,
  type BatchViews,
  type RunDataset,
  type SampleValues,
  textView,
  tokenizedFor,
  type TextViews,
  viewReader,
} from "./run-samples.js";
export { nativeSide } from "./native-size.js";
export { openDataset, openImages, type OpenOptions } from "./open.js";
export { decodeSquare, squareAt } from "./decode.js";
export { epochPermutation, positionOf, samplesOf, type StepPosition } from "./permutation.js";
export { type DataSpec, parseDataSpec } from "./spec.js";
export { writeShards } from "./write-shards.js";
export type { TokenDataset, TokenSource } from "./tokens.js";
