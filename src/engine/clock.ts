/** The time of day inside a step, as a tensor: it is taken where the step runs, in JavaScript or within the graph. */
import { currentRecording } from "./compiled/record.js";
import { DTYPE } from "./compiled/graph.js";
import { tf, type Tensor, type Tensor1D } from "./tensorflow.js";

/**
 * When `after` had been computed (on a GPU: handed over to the device).
 * @returns int32 `[2]`, the two halves of a float64: seconds since 1970. `readTimestamp` reads it
 */
export function timestamp(after: Tensor): Tensor1D {
  const recording = currentRecording();
  if (recording === null) return tf.tensor1d(new Int32Array(Float64Array.of(Date.now() / 1000).buffer), "int32");
  const seconds = recording.add({
    operation: "Timestamp",
    attributes: {},
    inputs: [],
    after: [recording.edgeOfTensor(after).node],
    outputs: [{ dtype: DTYPE.float64, shape: [] }],
  });
  const halves = recording.add({
    operation: "Bitcast",
    attributes: { T: { type: DTYPE.float64 }, type: { type: DTYPE.int32 } },
    inputs: [seconds],
    outputs: [{ dtype: DTYPE.int32, shape: [2] }],
  });
  const result = tf.tensor1d([0, 0], "int32");
  recording.substitute(result, halves);
  return result;
}

/** ms since 1970, comparable with `Date.now()` */
export function readTimestamp(halves: Tensor1D): number {
  const [seconds] = new Float64Array((halves.dataSync() as Int32Array).slice().buffer);
  return seconds * 1000;
}
