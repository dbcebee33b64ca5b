/** What training and evaluation see of a data set, wherever its samples come from. */

export type Split = "train" | "test";

/** One split: samples in manifest order, each an 8-bit RGB square. */
export interface SampleSource {
  readonly length: number;
  /** class of each sample, `[length]`; all −1 where the data has no labels */
  readonly labels: Int32Array;
  /** what to call sample `index` in a message: a path, or `synthetic train 17` */
  nameOf(index: number): string;
  /**
   * Writes sample `index` as `[decodeSize, decodeSize, 3]` uint8 RGB into `target` at `offset`.
   * @throws CorruptSampleError where the sample cannot be decoded
   */
  read(index: number, target: Uint8Array, offset: number): Promise<void>;
}

export interface Dataset {
  /** names of the classes, by label; empty where there are none */
  readonly classes: readonly string[];
  readonly decodeSize: number;
  readonly splits: Readonly<Record<Split, SampleSource>>;
  /** hex sha256 of the listing: names, labels and byte sizes (or the synthetic set's parameters), both splits */
  readonly manifestHash: string;
}

/** A sample that cannot be decoded. */
export class CorruptSampleError extends Error {
  override readonly name = "CorruptSampleError";
  constructor(
    readonly sampleName: string,
    options?: ErrorOptions,
  ) {
    super(`cannot decode ${sampleName}`, options);
  }
}
