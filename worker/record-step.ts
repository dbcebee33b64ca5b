/** The process that `recordApart` starts: records the step of the config on its standard input, and ends. */
import { text } from "node:stream/consumers";
import type { RunConfig } from "../src/config/schema.js";
import { resnet } from "../src/models/index.js";
import { prepareRankStep } from "./rank-step.js";

// The environment says how many threads and which device: it is the worker's.
const config = JSON.parse(await text(process.stdin)) as RunConfig;
await prepareRankStep(config, resnet(config.model), () => undefined);
