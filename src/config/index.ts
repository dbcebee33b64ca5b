/** The run config: schema, presets, and checks with helpful errors. */
export { conflictingKeys, isFree, type Conflict } from "./compare.js";
export { CONFIG_KEYS, configValue, nearestKey, type ConfigKey } from "./keys.js";
export { optimizerDefaults, optimizerVectors, updateRule, type UpdateRule } from "./optimizer.js";
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
export {
  ENCODERS,
  METHODS,
  OPTIMIZERS,
  runConfigSchema,
  type AugmentationConfig,
  type Method,
  type RunConfig,
} from "./schema.js";
export { modalityOf, type Modality } from "./text-encoders.js";
export { queueRowLength, runLength, usesExchange, usesLabels, type RunLength } from "./derived.js";
