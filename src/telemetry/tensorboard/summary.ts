/** What TensorBoard shows under a tag, in the forms that PyTorch's SummaryWriter writes. */
import { tensorboard } from "../generated/tensorboard.js";
import type { Histogram } from "./histogram.js";

export type SummaryValue = tensorboard.Summary.Value.$Shape;

/** A picture as TensorBoard takes it. */
export interface EncodedImage {
  /** in pixels */
  readonly width: number;
  readonly height: number;
  /** PNG, JPEG or GIF */
  readonly encoded: Uint8Array;
}

/** @param value rounded to float32 */
export function scalar(tag: string, value: number): SummaryValue {
  return { tag, value: "simpleValue", simpleValue: value };
}

export function histogram(
  tag: string,
  { min, max, count, sum, sumOfSquares, limits, counts }: Histogram,
): SummaryValue {
  const histo = { min, max, num: count, sum, sumSquares: sumOfSquares, bucketLimit: [...limits], bucket: [...counts] };
  return { tag, value: "histo", histo };
}

/** Readers take the number of channels from the encoded picture. */
const RGB = 3;

export function image(tag: string, { width, height, encoded }: EncodedImage): SummaryValue {
  return { tag, value: "image", image: { width, height, colorspace: RGB, encodedImageString: encoded } };
}

/** @param markdown what TensorBoard shows as formatted text */
export function text(tag: string, markdown: string): SummaryValue {
  return {
    tag,
    metadata: { pluginData: { pluginName: "text" } },
    value: "tensor",
    tensor: {
      dtype: tensorboard.DataType.DT_STRING,
      stringVal: [Buffer.from(markdown)],
    },
  };
}
