/** Data: from a `SPEC` to the batches of each step and rank. Nothing here loads the engine (`views.js`, which does, is apart). */
export { type OnCorrupt, readBatch } from "./batch.js";
export { cacheDecoded } from "./cache.js";
export { CorruptLimit } from "./corrupt-limit.js";
export { CorruptSampleError, type Dataset, type SampleSource, type Split } from "./dataset.js";
export { DRAW, DRAW_FLOATS, drawViews, type View } from "./draws.js";
export { type Batch, Loader } from "./loader.js";
export { openDataset, type OpenOptions } from "./open.js";
export { epochPermutation, positionOf, samplesOf, type StepPosition } from "./permutation.js";
export { type DataSpec, parseDataSpec } from "./spec.js";
