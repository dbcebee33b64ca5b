/** One thing that a run's events show, with what can be done about it. */
import { configValue, isFree, type RunConfig } from "../config/index.js";

export interface Finding {
  /** short and stable, for scripts */
  readonly kind: string;
  /** in one line */
  readonly title: string;
  /** figures, as the events have them */
  readonly seen: string;
  readonly why: string;
  /** options and keys of Tandem's, each a line */
  readonly tries: readonly string[];
  /** share of the run's time that could be won at the most, 0 to 1; null: it is not about time, or the events do not say how much */
  readonly gain: number | null;
}

/** Less than this share of the time is not worth a line. */
export const WORTH = 0.02;

/** `12.3%` */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** `12 ms`, `3.4 s`, `12 min`, `2.1 h` */
export function time(ms: number): string {
  if (ms < 1000) return `${ms.toFixed(ms < 100 ? 1 : 0)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 7_200_000 ? `${(ms / 60_000).toFixed(0)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}

/** `12.3 kB`, … */
export function bytes(value: number): string {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(1, value)) / 3)));
  return `${(value / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${["B", "kB", "MB", "GB"][power] ?? ""}`;
}

/** `1 step`, `2 steps` */
export function count(number: number, what: string): string {
  return `${String(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** @param name dotted, of a key that there is @returns the key, its value, and when it may be changed */
export function key(config: RunConfig, name: string): string {
  const value = configValue(config, name);
  if (value === undefined) throw new Error(`there is no config key ${name}`);
  return `${name} (now ${JSON.stringify(value)}; ${isFree(name) ? "--resume --set changes it" : "for a new run"})`;
}
