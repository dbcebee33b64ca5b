/** TensorBoard's event files. */
export { EventWriter } from "./event-writer.js";
export { histogramOf, type Histogram } from "./histogram.js";
export { histogram, image, scalar, text, type EncodedImage, type SummaryValue } from "./summary.js";
