/** `--aggregators` of a run. */
import { UserError } from "../protocol/errors.js";
import { once } from "./run-options.js";

export const AGGREGATORS_OPTION = {
  type: "string",
  default: "embedded",
  requiresArg: true,
  describe:
    "Who sums gradients and updates: embedded (the coordinator), N processes that share the parameters, or per-worker",
} as const;

/**
 * @param workers of which `per-worker` gives each one
 * @returns number of processes; null: embedded
 * @throws UserError `USAGE`
 */
export function aggregatorsOf(given: string, workers: number): number | null {
  const text = once("aggregators", given);
  if (text === "embedded") return null;
  const count = text === "per-worker" ? workers : Number(text);
  if (Number.isInteger(count) && count >= 1 && text !== "") return count;
  throw new UserError("USAGE", `--aggregators ${text}: give embedded, a number of processes, or per-worker`);
}
