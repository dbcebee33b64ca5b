/** How values are distributed, in buckets of equal width. */

export interface Histogram {
  readonly min: number;
  readonly max: number;
  /** how many values there are */
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  /** right edge of each bucket; the first begins at `min`, the last ends at `max` */
  readonly limits: readonly number[];
  /** how many values each bucket holds */
  readonly counts: readonly number[];
}

/** As many as TensorBoard shows. */
const BUCKETS = 30;

/** @returns of the values that are finite; null where there are none. One bucket of no width where all are equal. */
export function histogramOf(values: Float32Array): Histogram | null {
  let [min, max, count, sum, sumOfSquares] = [Infinity, -Infinity, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    count++;
    sum += value;
    sumOfSquares += value * value;
  }
  if (count === 0) return null;
  const summary = { min, max, count, sum, sumOfSquares };
  if (min === max) return { ...summary, limits: [max], counts: [count] };
  const counts = new Array<number>(BUCKETS).fill(0);
  // In float64, whose range holds the difference of any two float32 and its reciprocal.
  const perUnit = BUCKETS / (max - min);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (Number.isFinite(value)) counts[Math.min(BUCKETS - 1, Math.floor((value - min) * perUnit))]++;
  }
  const limits = counts.map((_, index) => (index === BUCKETS - 1 ? max : min + ((index + 1) * (max - min)) / BUCKETS));
  return { ...summary, limits, counts };
}
