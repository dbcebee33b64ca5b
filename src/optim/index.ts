/** Optimizers and sums over flat fp32 vectors. */
export { learningRateAt, type LearningRateSchedule } from "./schedule.js";
export { momentumUpdate, sgdStep, type DecaySlice, type SgdStep } from "./sgd.js";
export { isNode, ranksUnder, rootLevel, SumTree, type TreeNode } from "./sum-tree.js";
