/** How fast the workers are: means, quantiles, and who is slow for long. Pure. */

/** Weight of the newest time in a worker's mean. */
const NEWEST = 0.2;
/** Times of units from which the quantile is taken. */
const RECENT = 128;
/** With fewer times than this nobody is called late. */
const ENOUGH = 8;
/** A unit is late when it takes this many times the quantile. */
const LATE = 2;
/** A worker whose mean is this many times the others' median … */
const SLOW = 2;
/** … for so many units on end is named. */
export const SLOW_FOR_UNITS = 20;

/** @param pace mean so far in ms; null: none */
export function nextPace(pace: number | null, ms: number): number {
  return pace === null ? ms : pace + NEWEST * (ms - pace);
}

export function remember(recent: readonly number[], ms: number): readonly number[] {
  const next = recent.slice(recent.length < RECENT ? 0 : 1);
  next.push(ms);
  return next;
}

/**
 * @param quantile of the recent times, in (0, 1]
 * @param atLeastMs never less: shorter hiccups are not worth a second computation
 * @returns time after which a unit is late, in ms; infinite where too few times are known
 */
export function lateAfter(recent: readonly number[], quantile: number, atLeastMs: number): number {
  if (recent.length < ENOUGH) return Infinity;
  const rank = Math.min(recent.length - 1, Math.floor(quantile * recent.length));
  return Math.max(atLeastMs, LATE * ofRank(recent, rank));
}

/** @param others means of the other workers, in ms */
export function isSlow(pace: number, others: readonly number[]): { readonly slow: boolean; readonly median: number } {
  if (others.length === 0) return { slow: false, median: pace };
  const median = ofRank(others, Math.floor(others.length / 2));
  return { slow: pace > SLOW * median, median };
}

/** The value that would be at this index if they were in ascending order: selection by parts (Hoare 1961, "Find"). */
function ofRank(values: readonly number[], rank: number): number {
  const parts = values.slice();
  let [first, last] = [0, parts.length - 1];
  while (first < last) {
    const pivot = parts[(first + last) >> 1];
    let [i, j] = [first, last];
    while (i <= j) {
      while (parts[i] < pivot) i++;
      while (parts[j] > pivot) j--;
      if (i > j) break;
      const value = parts[i];
      parts[i++] = parts[j];
      parts[j--] = value;
    }
    if (rank <= j) last = j;
    else if (rank >= i) first = i;
    else break;
  }
  return parts[rank];
}
