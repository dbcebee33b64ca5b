/** Who does what: pure functions from a set of units and a list of workers to a split. */

/** Rank times between these shares of the median count as the median: noise must not move ranks from worker to worker. */
const LIKE_THE_MEDIAN = { from: 0.75, to: 1.33 };
/** Other speeds are rounded to this share of the median's, for the same reason. */
const SPEED_GRAIN = 0.25;
/** No worker counts as faster: a slow one must get a rank now and then, or nobody would see that it has recovered. */
const MOST_SPEED = 4;

/** What is known of a worker's speed. */
export interface Speed {
  /** mean time of one unit on one of its devices, in ms; null: not known, taken for the median */
  readonly pace: number | null;
  /** that compute at once */
  readonly devices: number;
}

/**
 * Cuts `units` into one contiguous run for each worker, as long as its speed allows. Contiguous ranks share subtrees of the
 * summation tree, so a worker sends few partial sums.
 * @returns one list a worker, in the workers' order; empty lists where there are more workers than units
 */
export function splitBySpeed<Unit>(units: readonly Unit[], workers: readonly Speed[]): Unit[][] {
  const lengths = apportion(units.length, speedsOf(workers));
  let start = 0;
  return lengths.map((length) => units.slice(start, (start += length)));
}

/** Speeds relative to the median device's, rounded. */
function speedsOf(workers: readonly Speed[]): number[] {
  const known = workers.flatMap(({ pace }) => (pace === null ? [] : [pace])).sort((a, b) => a - b);
  const median = known.at(Math.floor(known.length / 2));
  const ofDevice = (pace: number | null) => {
    if (pace === null || median === undefined || pace <= 0) return 1;
    const share = pace / median;
    if (share >= LIKE_THE_MEDIAN.from && share <= LIKE_THE_MEDIAN.to) return 1;
    return Math.min(MOST_SPEED, Math.max(SPEED_GRAIN, Math.round(1 / share / SPEED_GRAIN) * SPEED_GRAIN));
  };
  return workers.map(({ pace, devices }) => devices * ofDevice(pace));
}

/** Shares of `total` in proportion to `weights`, by the largest remainder; of equal ones the earlier gets more. */
function apportion(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  const exact = weights.map((weight) => (total * weight) / sum);
  const lengths = exact.map(Math.floor);
  let left = total - lengths.reduce((all, length) => all + length, 0);
  const byRemainder = weights
    .map((_, index) => index)
    .sort((a, b) => exact[b] - lengths[b] - (exact[a] - lengths[a]) || a - b);
  for (const index of byRemainder) {
    if (left-- <= 0) break;
    lengths[index]++;
  }
  return lengths;
}

/** A stretch of one split whose features one worker computes in one go. */
export interface FeatureChunk {
  readonly split: "train" | "test";
  readonly start: number;
  readonly count: number;
}

/** Cuts both splits into chunks of at most `size` samples: the training bank first. */
export function featureChunks(train: number, test: number, size: number): FeatureChunk[] {
  const cut = (split: FeatureChunk["split"], length: number): FeatureChunk[] =>
    Array.from({ length: Math.ceil(length / size) }, (_, index) => ({
      split,
      start: index * size,
      count: Math.min(size, length - index * size),
    }));
  return [...cut("train", train), ...cut("test", test)];
}
