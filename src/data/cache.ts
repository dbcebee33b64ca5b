/** Decoded images kept in memory, so that the second epoch does not decode again. */
import type { ImageSource } from "./dataset.js";

/** A source that holds its samples in memory already; caching it would hold them twice. */
export interface ResidentSource extends ImageSource {
  readonly resident: true;
}

/**
 * Puts a cache in front of a source. It keeps samples 0, 1, … as far as they fit: no eviction, because an epoch visits every sample
 * once, and there the share that hits is the share that fits, whichever is kept.
 * @param decodeSize side of the samples in pixels
 * @param maxBytes bound of the memory; 0 keeps nothing
 */
export function cacheDecoded(source: ImageSource, decodeSize: number, maxBytes: number): ImageSource {
  const sampleBytes = decodeSize * decodeSize * 3;
  const kept = Math.min(source.length, Math.floor(maxBytes / sampleBytes));
  return isResident(source) || kept === 0 ? source : new CachedSource(source, sampleBytes, kept);
}

function isResident(source: ImageSource): boolean {
  return "resident" in source;
}

class CachedSource implements ImageSource {
  readonly length: number;
  readonly labels: Int32Array;
  private readonly pages: (Uint8Array | undefined)[];
  private readonly filled: Uint8Array;

  constructor(
    private readonly source: ImageSource,
    private readonly sampleBytes: number,
    private readonly kept: number,
  ) {
    this.length = source.length;
    this.labels = source.labels;
    this.filled = new Uint8Array(kept);
    this.pages = new Array<Uint8Array | undefined>(Math.ceil(kept / SAMPLES_PER_PAGE));
  }

  nameOf(index: number): string {
    return this.source.nameOf(index);
  }

  /** @throws CorruptSampleError where the source does; a failure is not kept */
  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    if (index >= this.kept) return this.source.read(index, target, offset);
    const page = this.pageOf(index);
    const start = (index % SAMPLES_PER_PAGE) * this.sampleBytes;
    if (this.filled[index] === 0) {
      await this.source.read(index, page, start);
      this.filled[index] = 1;
    }
    target.set(page.subarray(start, start + this.sampleBytes), offset);
  }

  /** Memory comes in pages, when first touched: one array of the whole could pass what an array may hold. */
  private pageOf(index: number): Uint8Array {
    const number = Math.floor(index / SAMPLES_PER_PAGE);
    const samples = Math.min(SAMPLES_PER_PAGE, this.kept - number * SAMPLES_PER_PAGE);
    return (this.pages[number] ??= new Uint8Array(samples * this.sampleBytes));
  }
}

const SAMPLES_PER_PAGE = 256;
