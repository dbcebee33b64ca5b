/** Optimizers and sums over flat fp32 vectors. */
export { CODING_SLACK, differencesLength, MOST_ARENA_BYTES, packedLength, VectorArena } from "./arena.js";
export { keyMomentumAt, learningRateAt, type KeyMomentumSchedule, type LearningRateSchedule } from "./schedule.js";
export { isNode, ranksUnder, rootLevel, SumTree, type TreeNode } from "./sum-tree.js";
export {
  clipFactor,
  layersIn,
  layerSquares,
  update,
  type LayerSlice,
  type UpdateStep,
  type UpdateVectors,
} from "./updates.js";
