/** Who does what: pure functions from a set of units and a list of workers to a split. */

/**
 * Cuts `units` into one contiguous run for each worker, lengths differing by at most one, the longer runs first.
 * Contiguous ranks share subtrees of the summation tree, so a worker sends few partial sums.
 * @returns one list a worker, in the workers' order; empty lists where there are more workers than units
 */
export function splitEvenly<Unit>(units: readonly Unit[], workers: number): Unit[][] {
  const base = Math.floor(units.length / workers);
  const longer = units.length % workers;
  let start = 0;
  return Array.from({ length: workers }, (_, index) => {
    const length = base + (index < longer ? 1 : 0);
    const run = units.slice(start, start + length);
    start += length;
    return run;
  });
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
