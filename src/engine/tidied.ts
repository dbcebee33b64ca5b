/** `tf.tidy` for results that are no tensors, or hold others than tensors: its types know neither, although it keeps to what there is. */
import { tf } from "./tensorflow.js";

/** Disposes of the tensors that `compute` made, except those in its result. */
export function tidied<Result>(compute: () => Result): Result {
  return tf.tidy(compute as () => never);
}
