/** Options of whoever starts a coordinator. */
import { WIRE_WEIGHTS, type Wire, type WireWeights } from "../models/exchange.js";
import { UserError } from "../protocol/errors.js";
import { once } from "./run-options.js";

export const AGGREGATORS_OPTION = {
  type: "string",
  default: "embedded",
  requiresArg: true,
  describe:
    "Who sums gradients and updates: embedded (the coordinator), N processes that share the parameters, or per-worker",
} as const;

/** How weights and gradients travel. */
export const WIRE_OPTIONS = {
  "wire-weights": {
    choices: WIRE_WEIGHTS,
    default: "auto",
    requiresArg: true,
    describe:
      "How weights travel between machines: auto is bf16 where the run computes in bf16, and only what has changed (delta) where that is faster; never part of the result",
  },
  "shared-memory": {
    type: "boolean",
    default: true,
    describe: "Share memory with workers on the same machine; --no-shared-memory sends everything, as between machines",
  },
  overlap: {
    type: "boolean",
    default: true,
    describe:
      "Send each of several aggregators its gradients while a worker computes the rest; --no-overlap waits for the step's end, to compare; never part of the result",
  },
} as const;

export const TENSORBOARD_OPTION = {
  type: "boolean",
  default: true,
  describe: "Write TensorBoard's event files to tensorboard/ in the run directory; --no-tensorboard writes none",
} as const;

/** Where workers have their samples from. */
export const DELIVERY_OPTION = {
  choices: ["local", "stream"],
  default: "local",
  requiresArg: true,
  describe:
    "Where workers have samples from: local, each from its own copy (--data), or stream, sent by the coordinator to those without",
} as const;

export interface DeliveryArguments {
  readonly "data-delivery": "local" | "stream";
}

export function streamsData(given: DeliveryArguments): boolean {
  return once("data-delivery", given["data-delivery"]) === "stream";
}

export interface WireArguments {
  readonly "wire-weights": WireWeights;
  readonly "shared-memory": boolean;
  readonly overlap: boolean;
}

export function wireOf(given: WireArguments): Wire {
  return { weights: once("wire-weights", given["wire-weights"]), sharesMemory: given["shared-memory"] };
}

/** The same, and where samples are from, as flags. */
export function wireFlags(given: WireArguments & DeliveryArguments): readonly string[] {
  const { weights, sharesMemory } = wireOf(given);
  return [
    ...(weights === "auto" ? [] : ["--wire-weights", weights]),
    ...(sharesMemory ? [] : ["--no-shared-memory"]),
    ...(given.overlap ? [] : ["--no-overlap"]),
    ...(streamsData(given) ? ["--data-delivery", "stream"] : []),
  ];
}

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
