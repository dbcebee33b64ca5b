/** The process that `describeApart` starts. */
import { serveApart } from "../../engine/serve-apart.js";
import type { Architecture, EncoderConfig } from "../architecture.js";

await serveApart<EncoderConfig, Architecture>(async (config) => {
  const { ownEncoder } = await import("./own-encoder.js");
  const { layout, featureDim } = await ownEncoder(config);
  return { layout, featureDim };
});
