/** Whether two configs describe the same run. */
import { CONFIG_KEYS, configValue } from "./keys.js";
import type { RunConfig } from "./schema.js";

/**
 * Keys, or groups of keys, that never show in the result, so that a resumed run may change them: who does the work, how it
 * is watched and kept, and where this machine holds the data (the manifest's hash says that it is the same).
 */
const FREE = [
  "engine.heldRanks",
  "data.spec",
  "data.maxCorrupt",
  "data.cacheMiB",
  "data.tokenizer",
  "parallel.workers",
  "numerics",
  "evaluation",
  "checkpoint",
  "membership",
];

/** @param name dotted */
export function isFree(name: string): boolean {
  return FREE.some((free) => name === free || name.startsWith(`${free}.`));
}

export interface Conflict {
  /** dotted name */
  readonly key: string;
  /** both values as JSON */
  readonly stored: string;
  readonly given: string;
}

/** Keys that belong to the result and differ, in the schema's order. */
export function conflictingKeys(stored: RunConfig, given: RunConfig): Conflict[] {
  return CONFIG_KEYS.filter(({ name, isGroup }) => !isGroup && !isFree(name))
    .map(({ name }) => ({
      key: name,
      stored: JSON.stringify(configValue(stored, name)),
      given: JSON.stringify(configValue(given, name)),
    }))
    .filter(({ stored: before, given: now }) => before !== now);
}
