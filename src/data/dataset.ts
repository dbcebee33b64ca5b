/** What training and evaluation see of a data set, wherever its samples come from. */

export type Split = "train" | "test";

/** One split: samples in manifest order. */
export interface SampleSource {
  readonly length: number;
  /** class of each sample, `[length]`; −1 where one has no label, and such stand behind those that have */
  readonly labels: Int32Array;
  /** what to call sample `index` in a message: a path, `synthetic train 17`, or a file and line */
  nameOf(index: number): string;
}

/** How many samples have a label: the first ones of the source. */
export function labelledLength({ labels }: Pick<SampleSource, "labels">): number {
  const first = labels.findIndex((label) => label < 0);
  return first < 0 ? labels.length : first;
}

/** Samples that are each an 8-bit RGB square. */
export interface ImageSource extends SampleSource {
  /**
   * Writes sample `index` as `[decodeSize, decodeSize, 3]` uint8 RGB into `target` at `offset`.
   * @throws CorruptSampleError where the sample cannot be decoded
   */
  read(index: number, target: Uint8Array, offset: number): Promise<void>;
}

/** A split whose samples are image files, wherever these lie. */
export interface FileSource extends ImageSource {
  /**
   * The file of sample `index` as it is; its format is told by the extension of `nameOf(index)`.
   * @throws UserError `DATA_UNREADABLE` where it cannot be read: a fault of this machine, which nothing may replace
   */
  encoded(index: number): Promise<Uint8Array>;
}

export function isFileSource(source: ImageSource): source is FileSource {
  return "encoded" in source;
}

/** Samples that are each a text. */
export interface TextSource extends SampleSource {
  /** lines without text, which are left out */
  readonly emptyLines: number;
  /** the text of sample `index`, without line ends around it; never empty */
  text(index: number): string;
}

interface Described {
  /** names of the classes, by label; empty where there are none */
  readonly classes: readonly string[];
  /** hex sha256 of the listing, both splits: names, labels and byte sizes, the synthetic set's parameters, or texts and labels */
  readonly manifestHash: string;
}

export interface ImageDataset extends Described {
  readonly modality: "image";
  readonly decodeSize: number;
  readonly splits: Readonly<Record<Split, ImageSource>>;
  /** of pairs: what the key view of each sample of `splits` is made from; left out where that is the sample itself */
  readonly keys?: Readonly<Record<Split, ImageSource>>;
}

export interface TextDataset extends Described {
  readonly modality: "text";
  readonly splits: Readonly<Record<Split, TextSource>>;
  /** as of images */
  readonly keys?: Readonly<Record<Split, TextSource>>;
}

export type Dataset = ImageDataset | TextDataset;

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
