/** Optimizers and sums over flat fp32 vectors. */
export { VectorArena, type DecaySlice, type SgdStep, type SgdVectors } from "./arena.js";
export { learningRateAt, type LearningRateSchedule } from "./schedule.js";
export { isNode, ranksUnder, rootLevel, SumTree, type TreeNode } from "./sum-tree.js";
