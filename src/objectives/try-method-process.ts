/** The process that `tryMethodApart` starts. */
import { serveApart } from "../engine/serve-apart.js";
import type { MethodConfig } from "./try-method.js";

await serveApart<MethodConfig, null>(async (config) => {
  const { objectiveOf } = await import("./objectives.js");
  await objectiveOf(config);
  return null;
});
