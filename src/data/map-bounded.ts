/** Asynchronous map with a bound on the calls under way. */

/**
 * Results in the order of `items`. The first rejection rejects the whole; calls already under way finish unseen, none starts after.
 * @param bound greatest number of calls under way at once, ≥ 1
 */
export async function mapBounded<T, R>(
  items: ArrayLike<T>,
  bound: number,
  call: (item: T, position: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const position = next++;
      try {
        results[position] = await call(items[position], position);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(bound, items.length) }, lane));
  return results;
}
