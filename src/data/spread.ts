/** A few of many samples, the same each time. */

/** Of its multiples modulo 1, any few lie far apart, and in step with no number of classes that come in turn. */
const GOLDEN_RATIO = (1 + Math.sqrt(5)) / 2;

/** @returns numbers in [0, length), all of them where there are no more than `count`; of twice as many on, they are `count` */
export function spread(length: number, count: number): number[] {
  if (length <= count) return Array.from({ length }, (_, index) => index);
  const places = Array.from({ length: count }, (_, place) => Math.floor(length * (((place + 1) * GOLDEN_RATIO) % 1)));
  return [...new Set(places)];
}
