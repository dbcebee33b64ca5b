/** The queue of negatives (He et al. 2020, section 3.2): K keys of past steps as a ring; the newest overwrite the oldest. */
import { Purpose, Stream } from "../protocol/philox.js";

/** Label of a key that belongs to no class: a queue's first, random ones. */
export const NO_LABEL = -1;

export class KeyQueue {
  /**
   * @param keys float32 `[K, D]` in the ring's order; a row may hold more than a key, such as its label. The order is part
   *   of the result (sums over the queue follow it), so it travels and is stored as it is.
   * @param oldest row that the next key overwrites
   */
  private constructor(
    readonly keys: Float32Array,
    readonly size: number,
    readonly dimension: number,
    private oldest: number,
  ) {}

  /**
   * Before the first step: random directions, as MoCo starts its queue.
   * @param label of every key, as a value more behind it; null: keys have none
   */
  static random(size: number, dimension: number, seed: number, label: number | null = null): KeyQueue {
    const width = label === null ? dimension : dimension + 1;
    const rows = new Float32Array(size * width).fill(label ?? 0);
    for (let row = 0; row < size; row++) {
      const draws = new Stream(seed, { purpose: Purpose.queue, sample: row });
      const key = rows.subarray(row * width, row * width + dimension);
      for (let i = 0; i < dimension; i++) key[i] = draws.normal();
      const norm = Math.sqrt(key.reduce((sum, value) => sum + value * value, 0));
      for (let i = 0; i < dimension; i++) key[i] = key[i] / norm;
    }
    return new KeyQueue(rows, size, width, 0);
  }

  /**
   * @param keys float32 `[K, D]` as another KeyQueue held them
   * @param position its row that the next key overwrites
   */
  static restore(keys: Float32Array, size: number, dimension: number, position: number): KeyQueue {
    if (keys.length !== size * dimension) {
      throw new RangeError(`a queue of ${String(keys.length)} values is not ${String(size)} × ${String(dimension)}`);
    }
    return new KeyQueue(Float32Array.from(keys), size, dimension, position % size);
  }

  /** row that the next key overwrites */
  get position(): number {
    return this.oldest;
  }

  /** @param block float32 `[n, D]` in rank order, n ≤ K; empty for a method whose queue has rows of no values */
  append(block: Float32Array): void {
    const { size, dimension } = this;
    if (block.length === 0) return;
    const rows = block.length / dimension;
    if (!Number.isInteger(rows) || rows > size) {
      throw new RangeError(`a block of ${String(rows)} keys does not fit a queue of ${String(size)}`);
    }
    const untilEnd = Math.min(rows, size - this.oldest);
    this.keys.set(block.subarray(0, untilEnd * dimension), this.oldest * dimension);
    this.keys.set(block.subarray(untilEnd * dimension), 0);
    this.oldest = (this.oldest + rows) % size;
  }
}
