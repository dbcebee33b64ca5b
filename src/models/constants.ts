/** Constants of batch norm, as torchvision has them. */
export const BATCH_NORM_EPSILON = 1e-5;
/** The share of a new batch in the running statistics. */
export const BATCH_NORM_MOMENTUM = 0.1;
