/**
 * Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
 * A draw is a pure function of (key, counter): no state, so any worker makes the same draw for the same sample.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** High 32 bits of the unsigned product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/** One block: four 32-bit unsigned words for a 64-bit key and a 128-bit counter. */
export function philox4x32(
  key: readonly [number, number],
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** What a draw is for. Two purposes never share a stream; the numbers are part of the run's meaning, so they never change. */
export const Purpose = {
  permutation: 1,
  parameter: 2,
  queue: 3,
  augmentation: 4,
  keyShuffle: 5,
  syntheticImage: 6,
  textView: 7,
  dropout: 8,
  syntheticGradient: 9,
  labelledSubset: 32,
} as const;
export type Purpose = (typeof Purpose)[keyof typeof Purpose];

/** Where in the run a stream of draws belongs. Each field is an unsigned 32-bit integer. */
export interface StreamAddress {
  readonly purpose: Purpose;
  /** epoch, or whatever plays its part for the purpose (a tensor's index, a split) */
  readonly epoch?: number;
  /** sample index in the manifest, or element block */
  readonly sample?: number;
  /** 0 query, 1 key; at most 255 */
  readonly view?: number;
}

/**
 * A stream of draws at one address. Draw `n` of the stream is word `n mod 4` of block `⌊n / 4⌋`.
 * @param seed the run's seed, an integer in [0, 2⁵³)
 */
export class Stream {
  private readonly key: readonly [number, number];
  private readonly purposeAndView: number;
  private readonly epoch: number;
  private readonly sample: number;
  private block = 0;
  private words: readonly number[] = [];
  private next = 4;

  constructor(seed: number, address: StreamAddress) {
    this.key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
    this.purposeAndView = ((address.purpose << 8) | (address.view ?? 0)) >>> 0;
    this.epoch = (address.epoch ?? 0) >>> 0;
    this.sample = (address.sample ?? 0) >>> 0;
  }

  /** Uniform 32-bit unsigned integer. */
  uint32(): number {
    if (this.next === 4) {
      this.words = philox4x32(this.key, [this.block++, this.sample, this.epoch, this.purposeAndView]);
      this.next = 0;
    }
    return this.words[this.next++];
  }

  /** Uniform in [low, high), 32 bits of resolution. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.uint32() / 2 ** 32);
  }

  /** Uniform integer in [0, bound), without modulo bias (Lemire 2019, "Fast Random Integer Generation in an Interval"). */
  below(bound: number): number {
    const threshold = (2 ** 32 - bound) % bound;
    for (;;) {
      const word = this.uint32();
      if (Math.imul(word, bound) >>> 0 >= threshold) return multiplyHigh(word, bound);
    }
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.uniform() < p;
  }

  /** Standard normal by Box and Muller (1958); two words a draw. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log((this.uint32() + 1) / (2 ** 32 + 1)));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}
