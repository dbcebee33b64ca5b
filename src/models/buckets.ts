/** How a flat vector is cut into buckets, as DDP's gradients are: what is updated and sent as one piece. */
import type { Slice } from "./shards.js";

/**
 * Values in a bucket at least, but for the last: 4 MB. Small enough that updating one and sending the one before overlap,
 * large enough that a message's fixed cost (about 0.1 ms) does not show.
 */
export const LEAST_BUCKET_SIZE = 1 << 20;

/** @param layout parameters that lie one behind another */
export function parameterBuckets(
  layout: { readonly parameters: readonly Slice[]; readonly parameterCount: number },
  leastSize = LEAST_BUCKET_SIZE,
): readonly Slice[] {
  const buckets: Slice[] = [];
  let offset = 0;
  for (const parameter of layout.parameters) {
    const end = parameter.offset + parameter.size;
    if (end - offset < leastSize && end < layout.parameterCount) continue;
    buckets.push({ offset, size: end - offset });
    offset = end;
  }
  return buckets;
}
