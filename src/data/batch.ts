/** Reads many samples into one array, and fills in for the corrupt ones. */
import { UserError } from "../protocol/errors.js";
import { CorruptSampleError, type ImageSource } from "./dataset.js";
import { mapBounded } from "./map-bounded.js";

/** Samples being read at once: twice libuv's four threads, so that none waits for the event loop. */
const READS_AT_ONCE = 8;

/** Told of each corrupt sample whenever it is met, by name and index. May throw to refuse the data. */
export type OnCorrupt = (name: string, index: number) => void;

/**
 * Reads samples side by side into `target`, `[indices.length, S, S, 3]` uint8. In place of a corrupt sample comes the next one in
 * manifest order (the first follows the last) that decodes: a function of the data alone, so all workers agree on it.
 * @param target of exactly as many whole samples as `indices`
 * @returns int32 `[indices.length]`: the sample that each place really holds
 * @throws UserError `DATA_ALL_CORRUPT` where no sample of the source decodes; whatever `onCorrupt` and the source throw
 */
export async function readBatch(
  source: ImageSource,
  indices: Int32Array | readonly number[],
  target: Uint8Array,
  onCorrupt: OnCorrupt,
): Promise<Int32Array> {
  const sampleBytes = target.length / Math.max(indices.length, 1);
  const read = await mapBounded<number, number>(indices, READS_AT_ONCE, (index, place) =>
    readOrNext(source, index, target, place * sampleBytes, onCorrupt),
  );
  return Int32Array.from(read);
}

async function readOrNext(
  source: ImageSource,
  wanted: number,
  target: Uint8Array,
  offset: number,
  onCorrupt: OnCorrupt,
): Promise<number> {
  for (let tried = 0; tried < source.length; tried++) {
    const index = (wanted + tried) % source.length;
    try {
      await source.read(index, target, offset);
      return index;
    } catch (error) {
      if (!(error instanceof CorruptSampleError)) throw error;
      onCorrupt(error.sampleName, index);
    }
  }
  throw new UserError("DATA_ALL_CORRUPT", `none of the ${source.length} images can be decoded: check the data folder`);
}
