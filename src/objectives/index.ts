/** What is trained for: the contrastive losses, and the queue of negatives. */
export { infoNce, normalise, type InfoNce } from "./infonce.js";
export { KeyQueue } from "./key-queue.js";
export { forwardContext, mocoStep, type MocoInput, type MocoResult } from "./moco.js";
