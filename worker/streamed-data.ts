/** A run's data set as a worker has it that mounts none: samples come from the coordinator when they are read. */
import type { RunConfig } from "../src/config/schema.js";
import {
  CorruptSampleError,
  decodeSquare,
  squareAt,
  tokenizedFor,
  type ImageSource,
  type RunDataset,
  type Split,
  type TextSource,
} from "../src/data/index.js";
import { WireError } from "../src/protocol/wire-error.js";
import type { SampleClient } from "./sample-client.js";

/** @throws UserError as `openTokenizer`, and where the coordinator cannot read a text */
export async function streamedDataset(client: SampleClient, config: RunConfig): Promise<RunDataset> {
  const { listing, labels } = await client.listing();
  const { trainLength, testLength, classes: given, manifestHash: hash, paired, texts } = listing;
  const lengths = { train: trainLength ?? 0, test: testLength ?? 0 };
  if (labels.length !== Int32Array.BYTES_PER_ELEMENT * (lengths.train + lengths.test))
    throw new WireError("a listing without all labels");
  const values = new Int32Array(Uint8Array.from(labels).buffer);
  const labelsOf = { train: values.slice(0, lengths.train), test: values.slice(lengths.train) };
  const [classes, manifestHash] = [given ?? [], hash ?? ""];
  const { decodeSize } = config.data;
  if (texts !== true) {
    const image = (split: Split, key: boolean) => new StreamedImages(client, split, key, labelsOf[split], decodeSize);
    const both = (key: boolean) => ({ train: image("train", key), test: image("test", key) });
    const keys = paired === true ? { keys: both(true) } : {};
    return { modality: "image", classes, manifestHash, decodeSize, splits: both(false), ...keys };
  }
  const text = (split: Split, key: boolean) => readTexts(client, split, key, labelsOf[split]);
  const both = async (key: boolean) => ({ train: await text("train", key), test: await text("test", key) });
  const keys = paired === true ? { keys: await both(true) } : {};
  const dataset = { modality: "text" as const, classes, manifestHash, splits: await both(false), ...keys };
  return tokenizedFor(config, dataset);
}

class StreamedImages implements ImageSource {
  readonly length: number;

  constructor(
    private readonly client: SampleClient,
    private readonly split: Split,
    private readonly key: boolean,
    readonly labels: Int32Array,
    private readonly decodeSize: number,
  ) {
    this.length = labels.length;
  }

  /** Its own name comes with a sample. */
  nameOf(index: number): string {
    return `${this.split} sample ${String(index)}`;
  }

  async read(index: number, target: Uint8Array, offset: number): Promise<void> {
    const place = { test: this.split === "test", key: this.key, index };
    const { name, pixels, bytes } = await this.client.fetch(place);
    const square = squareAt(target, offset, this.decodeSize);
    if (pixels) {
      if (bytes.length !== square.length) throw new WireError(`${name} has come with ${String(bytes.length)} bytes`);
      square.set(bytes);
      return;
    }
    try {
      await decodeSquare(bytes, this.decodeSize, square);
    } catch (cause) {
      throw new CorruptSampleError(name, { cause });
    }
  }
}

/** Texts are kept, as they are where they are read from a file. */
async function readTexts(client: SampleClient, split: Split, key: boolean, labels: Int32Array): Promise<TextSource> {
  const decoder = new TextDecoder();
  const samples = await Promise.all(
    Array.from(labels, async (_, index) => {
      const { name, bytes } = await client.fetch({ test: split === "test", key, index });
      return { name, text: decoder.decode(bytes) };
    }),
  );
  return {
    length: labels.length,
    labels,
    emptyLines: 0,
    nameOf: (index) => samples[index].name,
    text: (index) => samples[index].text,
  };
}
