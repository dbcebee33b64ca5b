/** Both images of a pair read as one sample, so that of a corrupt one the other goes too: what stands in is a whole pair. */
import type { ImageSource } from "./dataset.js";

/** A sample is `[2, S', S', 3]` uint8 RGB: the query's image, then the key's. */
export class PairedImages implements ImageSource {
  readonly length: number;
  readonly labels: Int32Array;

  /** @param imageBytes of one image: S'·S'·3 */
  constructor(
    private readonly queries: ImageSource,
    private readonly keys: ImageSource,
    private readonly imageBytes: number,
  ) {
    this.length = queries.length;
    this.labels = queries.labels;
  }

  nameOf(index: number): string {
    return `${this.queries.nameOf(index)} with ${this.keys.nameOf(index)}`;
  }

  /** @throws CorruptSampleError that names the image which cannot be decoded */
  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    await this.queries.read(index, target, offset);
    await this.keys.read(index, target, offset + this.imageBytes);
  }
}

/**
 * Pairs lying one after another, taken apart into shared memory.
 * @param pairs uint8 `[B, 2, S', S', 3]`
 * @returns uint8 `[B, S', S', 3]` each
 */
export function parted(
  pairs: Uint8Array,
  imageBytes: number,
): { readonly queries: Uint8Array; readonly keys: Uint8Array } {
  const queries = new Uint8Array(new SharedArrayBuffer(pairs.length / 2));
  const keys = new Uint8Array(new SharedArrayBuffer(pairs.length / 2));
  for (let start = 0; start < pairs.length; start += 2 * imageBytes) {
    queries.set(pairs.subarray(start, start + imageBytes), start / 2);
    keys.set(pairs.subarray(start + imageBytes, start + 2 * imageBytes), start / 2);
  }
  return { queries, keys };
}
