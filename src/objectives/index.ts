/** What is trained for: the methods, their losses, and the queue of negatives. */
export { normalise, type Contrast } from "./contrast.js";
export { infoNce } from "./infonce.js";
export { KeyQueue, NO_LABEL } from "./key-queue.js";
export { splitLabels, withLabels, type LabelledQueue } from "./labelled-rows.js";
export { moco, momentumContrast } from "./moco.js";
export { type Objective, type ShowInput, type StepInput } from "./objective.js";
export { objectiveOf } from "./objectives.js";
export { supConOfQueue } from "./supcon.js";
export { forwardContext, type Exchanged, type Shown, type StepResult } from "./rank.js";
