/** A data set in memory for tests: sample `i` is filled with the value `i mod 256`, and chosen ones are corrupt. */
import { CorruptSampleError, type ImageDataset, type ImageSource } from "../../../src/data/dataset.js";

export class MemorySource implements ImageSource {
  readonly labels: Int32Array;
  /** indices in the order in which they were read */
  readonly reads: number[] = [];
  underWay = 0;
  mostUnderWay = 0;

  constructor(
    readonly length: number,
    private readonly side: number,
    private readonly corrupt: ReadonlySet<number> = new Set(),
  ) {
    this.labels = Int32Array.from({ length }, (_, index) => index * 10);
  }

  nameOf(index: number): string {
    return `memory ${index}`;
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    this.reads.push(index);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.underWay--;
    if (this.corrupt.has(index)) throw new CorruptSampleError(this.nameOf(index));
    target.fill(index, offset, offset + this.side * this.side * 3);
  }
}

export function memoryDataset(train: ImageSource, side: number): ImageDataset {
  return {
    modality: "image",
    classes: [],
    decodeSize: side,
    splits: { train, test: new MemorySource(0, side) },
    manifestHash: "",
  };
}
