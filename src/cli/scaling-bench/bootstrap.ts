/** Confidence of what is computed from rounds: the percentile bootstrap (Efron 1979; Efron and Tibshirani 1993, chapter 13). */
import { random } from "../simulate/random.js";

export interface Estimate {
  readonly value: number;
  /** of the 95% interval; null: too few rounds */
  readonly low: number | null;
  readonly high: number | null;
}

/** Fewer rounds say nothing of their spread. */
export const ROUNDS_FOR_INTERVALS = 3;
const RESAMPLES = 2000;
const [LOW, HIGH] = [0.025, 0.975];
/** The same rounds give the same intervals. */
const SEED = 1993;

/**
 * @param statistics of rounds, each a number, always in the same order
 * @returns of each its value for all rounds and the interval over rounds drawn with replacement
 */
export function bootstrap<Round>(
  rounds: readonly Round[],
  statistics: (rounds: readonly Round[]) => readonly number[],
): Estimate[] {
  const values = statistics(rounds);
  if (rounds.length < ROUNDS_FOR_INTERVALS) return values.map((value) => ({ value, low: null, high: null }));
  const { pick } = random(SEED);
  const drawn = Array.from({ length: RESAMPLES }, () => statistics(rounds.map(() => pick(rounds))));
  return values.map((value, index) => {
    const sorted = drawn.map((numbers) => numbers[index]).sort((a, b) => a - b);
    return { value, low: quantile(sorted, LOW), high: quantile(sorted, HIGH) };
  });
}

/** @param sorted at least one, ascending @param share in [0, 1] @returns between the two neighbours in proportion */
function quantile(sorted: readonly number[], share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
