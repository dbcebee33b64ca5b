/** What a run is like: its model, what of it travels, and how long its ranks take. */
import { queueRowLength, usesExchange } from "../../config/derived.js";
import type { RunConfig } from "../../config/schema.js";
import { architectureOf } from "../../models/architecture.js";
import { UserError } from "../../protocol/errors.js";
import { eventsIn } from "../existing-run.js";
import { random } from "./random.js";
import type { Payload, RankTime } from "./scenario.js";

/** Steps of a run that do not count: engines warm up. */
const WARM_UP_STEPS = 5;
/** Steps that a profile takes at least. */
const LEAST_STEPS = 5;
/** Of a rank's time, the forward pass of both encoders and the loss, where it was not measured. */
const FORWARD_SHARE = 0.4;
/** What a rank may take, in ms. */
export const LEAST_RANK_MS = 0.001;
export const MOST_RANK_MS = 3_600_000;
/** Draws that stand for a distribution. */
const DRAWS = 512;

/**
 * Times of ranks as a run's events have them: means over the ranks of each step, so ranks differ more than these do.
 * @throws UserError `PROFILE_MISSING` where the run has too few steps
 */
export async function measuredRankTimes(directory: string): Promise<readonly RankTime[]> {
  const times: RankTime[] = [];
  let seen = 0;
  for await (const event of eventsIn(directory)) {
    if (event.kind !== "step" || ++seen <= WARM_UP_STEPS) continue;
    const { forwardMs, backwardMs } = event;
    const both = forwardMs + backwardMs;
    if (!(forwardMs >= 0 && backwardMs >= 0 && both >= LEAST_RANK_MS && both <= MOST_RANK_MS))
      throw new UserError("PROFILE_DAMAGED", `${directory}: step ${String(event.step)} has no times of a rank: give --rank-ms instead`); // prettier-ignore
    times.push({ forwardMs, backwardMs });
  }
  if (times.length >= LEAST_STEPS) return times;
  throw new UserError(
    "PROFILE_MISSING",
    `${directory} has ${String(seen)} steps, and a profile takes ${String(WARM_UP_STEPS + LEAST_STEPS)}: let it train longer, or give --rank-ms instead`,
  );
}

/** @param spread standard deviation over the mean, of a log-normal distribution; 0: all the same */
export function assumedRankTimes(ms: number, spread: number, seed: number): readonly RankTime[] {
  const draw = random(seed);
  const sigma = Math.sqrt(Math.log1p(spread ** 2));
  const normal = () => Math.sqrt(-2 * Math.log(1 - draw.next())) * Math.cos(2 * Math.PI * draw.next());
  return Array.from({ length: spread === 0 ? 1 : DRAWS }, () => {
    const own = ms * Math.exp(sigma * normal() - sigma ** 2 / 2);
    return { forwardMs: own * FORWARD_SHARE, backwardMs: own * (1 - FORWARD_SHARE) };
  });
}

export function meanRankMs(times: readonly RankTime[]): number {
  return times.reduce((sum, { forwardMs, backwardMs }) => sum + forwardMs + backwardMs, 0) / times.length;
}

/** @throws UserError `SIMULATE_METHOD` where ranks wait for each other within a step, which is not simulated */
export async function payloadOf(config: RunConfig): Promise<Payload> {
  if (usesExchange(config) || config.model.syncBatchNorm) {
    throw new UserError(
      "SIMULATE_METHOD",
      `method ${config.method} shows embeddings between ranks within a step, which is not simulated: take one with a queue and no shuffling across ranks, e.g. --method moco-v2`,
    );
  }
  const { layout } = await architectureOf(config);
  const { precision } = config.engine;
  return {
    tensors: layout.parameters.map(({ size }) => size),
    gradients: config.parallel.gradients,
    weights: precision,
    keyBytesPerRank: 4 * config.parallel.batchSize * queueRowLength(config),
  };
}
