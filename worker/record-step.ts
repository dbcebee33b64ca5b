/**
 * The process that `recordApart` starts: records the step of the config in the first line of its standard input, and ends; also
 * where standard input ends, since whoever asked is gone.
 */
import { createInterface } from "node:readline";
import type { RunConfig } from "../src/config/schema.js";
import { encoderOf } from "../src/models/index.js";
import { prepareStep } from "./rank-step.js";

const lines = createInterface({ input: process.stdin });
lines.once("close", () => process.exit());
lines.once("line", (line) => {
  // The environment says how many threads and which device: it is the worker's.
  const config = JSON.parse(line) as RunConfig;
  const recorded = async () => {
    await prepareStep(config, await encoderOf(config), () => undefined);
  };
  void recorded().finally(() => process.exit());
});
