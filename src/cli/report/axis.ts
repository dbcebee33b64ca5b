/** Where an axis has its numbers. */

/** Lines that an axis has, about. */
const TICKS = 5;
/** What a step may be, times a power of ten. */
const STEPS = [1, 2, 5, 10];

/** @param high above `low` @returns round numbers between the two, ascending */
export function roundTicks(low: number, high: number): number[] {
  const least = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = power * (STEPS.find((times) => times * power >= least) ?? 10);
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step + 1e-9)];
  // 3 · 0.1 is 0.30000000000000004.
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}
