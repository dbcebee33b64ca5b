/** The run config: schema, presets, and checks with helpful errors. */
export { conflictingKeys, type Conflict } from "./compare.js";
export { CONFIG_KEYS, configValue, nearestKey, type ConfigKey } from "./keys.js";
export { PRESET_NAMES, PRESETS, type PresetName } from "./presets.js";
export { printConfig } from "./print.js";
export {
  checkAgainstDataset,
  checkConfig,
  parseValue,
  readWholeConfig,
  resolveConfig,
  type ConfigSources,
} from "./resolve.js";
export { ENCODERS, runConfigSchema, type AugmentationConfig, type EncoderName, type RunConfig } from "./schema.js";
export { runLength, type RunLength } from "./derived.js";
