/** The config's keys by dotted name, read off the schema. */
import { z } from "zod";
import { editDistance } from "./nearest-name.js";
import { runConfigSchema, type RunConfig } from "./schema.js";

export interface ConfigKey {
  /** dotted, e.g. `moco.temperature` */
  readonly name: string;
  readonly description: string;
  readonly isGroup: boolean;
}

function walk(schema: z.ZodObject, prefix: string): ConfigKey[] {
  return Object.entries(schema.shape).flatMap(([key, value]) => {
    const name = prefix + key;
    const description = (value as z.ZodType).description ?? "";
    // A group that older configs do without.
    const group: unknown = value instanceof z.ZodPrefault ? value.unwrap() : value;
    if (!(group instanceof z.ZodObject)) return [{ name, description, isGroup: false }];
    return [{ name, description, isGroup: true }, ...walk(group, `${name}.`)];
  });
}

/** Groups before their members, in the schema's order. */
export const CONFIG_KEYS: readonly ConfigKey[] = walk(runConfigSchema, "");

/** The value under a dotted name; undefined where there is none. */
export function configValue(config: RunConfig, name: string): unknown {
  const step = (place: unknown, part: string) =>
    typeof place === "object" && place !== null && Object.hasOwn(place, part)
      ? (place as Record<string, unknown>)[part]
      : undefined;
  return name.split(".").reduce<unknown>(step, config);
}

/** The known key that is most like `name`, by edit distance over the whole dotted name or its last part. */
export function nearestKey(name: string): string {
  // A dotted name is compared by its last part too, so that a forgotten group is found; half a point behind an exact match.
  const last = (dotted: string) => dotted.slice(dotted.lastIndexOf(".") + 1);
  const scored = CONFIG_KEYS.map((key) => ({
    name: key.name,
    distance: Math.min(editDistance(name, key.name), editDistance(last(name), last(key.name)) + 0.5),
  }));
  return scored.reduce((best, next) => (next.distance < best.distance ? next : best)).name;
}
