/** Options of whoever starts a coordinator. */
import { UserError } from "../protocol/errors.js";
import { once } from "./run-options.js";

export const AGGREGATORS_OPTION = {
  type: "string",
  default: "embedded",
  requiresArg: true,
  describe:
    "Who sums gradients and updates: embedded (the coordinator), N processes that share the parameters, or per-worker",
} as const;

export const TRACE_OPTION = {
  type: "string",
  requiresArg: true,
  describe: "Write a timeline of the steps to this file, for Perfetto or chrome://tracing (Chrome trace JSON)",
} as const;

/**
 * @param workers of which `per-worker` gives each one
 * @returns number of processes; null: embedded
 * @throws UserError `USAGE`
 */
export function aggregatorsOf(given: string, workers: number): number | null {
  const text = once("aggregators", given);
  if (text === "embedded") return null;
  const count = text === "per-worker" ? workers : /^\d+$/.test(text) ? Number(text) : 0;
  if (count >= 1) return count;
  throw new UserError("USAGE", `--aggregators ${text}: give embedded, a number of processes, or per-worker`);
}
