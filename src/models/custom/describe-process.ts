/** The process that `describeApart` starts: one config in, one description out. */
import { writeSync } from "node:fs";
import { json } from "node:stream/consumers";
import { configureEngine } from "../../engine/environment.js";
import { UserError } from "../../protocol/errors.js";
import type { EncoderConfig } from "../architecture.js";
import type { Description } from "./describe.js";

const OUTPUT = 3;

// Before the engine is loaded. The devices are the workers'.
configureEngine({ threads: 1, device: "cpu" });
const config = (await json(process.stdin)) as EncoderConfig;
const { ownEncoder } = await import("./own-encoder.js");

let description: Description;
try {
  const { layout, featureDim } = await ownEncoder(config);
  description = { architecture: { layout, featureDim } };
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  description = { error: { code: error.code, message: error.message } };
}
writeSync(OUTPUT, JSON.stringify(description));
process.exit();
