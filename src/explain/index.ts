/** Why a run is as fast as it is, and whether it learns: findings of its events and its config. Pure. */
import type { RunConfig } from "../config/index.js";
import type { Stage, TimedEvent } from "../telemetry/index.js";
import type { Finding } from "./finding.js";
import { checkpoints, crashes, evaluations, lostWorkers, otherBits, refusals, skippedSteps, starts, tooFewWorkers } from "./interruptions.js"; // prettier-ignore
import { learning, learningRate } from "./learning.js";
import { computing, drift, exchange, loading, waiting } from "./step-time.js";
import { quantile, stageShares, summaryOf, wallMs, type Clock, type RunSummary } from "./summary.js";

export { percent, time, type Finding } from "./finding.js";
export { wallMs } from "./summary.js";

/** What a run's events say of it. */
export interface Explanation {
  readonly summary: RunSummary;
  /** null: no step */
  readonly speed: {
    readonly samplesPerSecond: number;
    readonly stepMs: { readonly median: number; readonly p95: number };
  } | null;
  /** of all workers' time in steps, 0 to 1; null: the events do not say */
  readonly stages: Readonly<Record<Stage, number>> | null;
  /** of the run's time by the clock, 0 to 1 */
  readonly clock: Readonly<Record<keyof Clock, number>>;
  /** kind of the finding that takes most of the time; null: the events do not say */
  readonly limit: string | null;
  /** by the time that could be won, most first; then what is not about time */
  readonly findings: readonly Finding[];
}

/** Each looks for one thing; null: it is not there. */
const FINDERS: readonly ((summary: RunSummary, config: RunConfig) => Finding | null)[] = [
  ...[loading, waiting, exchange, drift],
  ...[crashes, lostWorkers, tooFewWorkers, evaluations, checkpoints, skippedSteps],
  ...[computing, starts, otherBits, refusals],
];

export async function explain(
  events: Iterable<TimedEvent> | AsyncIterable<TimedEvent>,
  config: RunConfig,
): Promise<Explanation> {
  const summary = await summaryOf(events);
  const { steps, globalBatch, clock } = summary;
  const median = quantile(steps.stepMs, 0.5);
  const found = FINDERS.flatMap((find) => find(summary, config) ?? []);
  const learns = steps.step.length === 0 ? [] : [learning(summary, config)];
  const isInTrouble = summary.skippedSteps > 0 || learns.some(({ tries }) => tries.some((text) => text.includes("optimizer.learningRate"))); // prettier-ignore
  const rate = steps.step.length === 0 ? null : learningRate(config, isInTrouble);
  const byGain = found.toSorted((one, other) => (other.gain ?? -1) - (one.gain ?? -1));
  const all = Math.max(1, wallMs(summary));
  return {
    summary,
    speed: globalBatch === null ? null : { samplesPerSecond: (1000 * globalBatch) / median, stepMs: { median, p95: quantile(steps.stepMs, 0.95) } }, // prettier-ignore
    stages: stageShares(summary),
    clock: Object.fromEntries(Object.entries(clock).map(([piece, ms]) => [piece, ms / all])) as Explanation["clock"],
    limit: limitOf(summary),
    findings: [...byGain, ...learns, ...(rate === null ? [] : [rate])],
  };
}

/** What takes most of the time. */
function limitOf(summary: RunSummary): string | null {
  const stages = stageShares(summary);
  if (stages === null) return null;
  const { clock } = summary;
  const inSteps = clock.steps + clock.repeated;
  const { load, forward, backward, send, aggregate, broadcast, wait } = stages;
  const parts: Readonly<Record<string, number>> = {
    loading: inSteps * load,
    computing: inSteps * (forward + backward),
    exchange: inSteps * (send + aggregate + broadcast),
    waiting: inSteps * wait,
    evaluations: clock.evaluations,
    crashes: clock.down,
    starts: clock.start,
    "too-few-workers": clock.waiting,
  };
  const [most] = Object.entries(parts).sort(([, one], [, other]) => other - one);
  return most?.[0] ?? null;
}
