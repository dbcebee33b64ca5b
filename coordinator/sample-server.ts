/**
 * The samples plane: hands a data set's samples out, as they lie in their files, to workers that have no data set. No socket in here.
 * What waits for a peer are numbers, not bytes: samples are read when their turn comes, a few at a time, the peers in turn.
 */
import {
  CorruptSampleError,
  isFileSource,
  type Dataset,
  type ImageSource,
  type TextSource,
} from "../src/data/dataset.js";
import { UserError } from "../src/protocol/errors.js";
import { toFrames } from "../src/protocol/frames.js";
import type { Sample, SampleMessage, SampleRequest } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";

/** Samples read at once: see `readBatch`. */
const READS_AT_ONCE = 8;
/** Samples that one peer may wait for; a worker asks for far fewer at a time. */
const MOST_WANTED = 4096;
/** What the numbers of so many take, and more. */
export const MOST_REQUEST_BYTES = 65_536;

interface Wanted {
  readonly test: boolean;
  readonly key: boolean;
  readonly index: number;
}

export class SampleServer {
  /** what each peer waits for; in the order of their turns */
  private readonly peers = new Map<string, Wanted[]>();
  private reading = 0;
  /** samples handed out */
  sent = 0;

  /**
   * @param decodeSize side in pixels of the images of sources that are no files
   * @param send what cannot be sent comes back as `gone`
   */
  constructor(
    private readonly dataset: Dataset,
    private readonly decodeSize: number,
    private readonly runId: string,
    private readonly send: (peer: string, message: SampleMessage, frames: readonly Uint8Array[]) => void,
    /** a sample cannot be read here, which every worker would be told that asks for it */
    private readonly failed: (error: UserError) => void,
  ) {}

  /** @throws WireError where it asks for what is not here */
  received(peer: string, request: SampleRequest): void {
    if (request.body === "ask") {
      this.expectRun(request.ask.runId);
      this.list(peer);
    } else if (request.body === "want") {
      const { runId, test, key, indices } = request.want;
      this.expectRun(runId);
      const queue = this.peers.get(peer) ?? [];
      const asked = indices ?? [];
      if (queue.length + asked.length > MOST_WANTED) throw new WireError("more samples than one peer may wait for");
      const wanted = asked.map((index) => ({ test: test === true, key: key === true, index }));
      const [first] = wanted;
      const source = first === undefined ? undefined : this.sourceOf(first);
      if (source === undefined || wanted.some(({ index }) => index >= source.length))
        throw new WireError("samples that the data set has not");
      queue.push(...wanted);
      this.peers.set(peer, queue);
      this.pump();
    }
  }

  /** It cannot be reached, so nothing waits for it. */
  gone(peer: string): void {
    this.peers.delete(peer);
  }

  private expectRun(runId: string | null | undefined): void {
    if (runId !== this.runId) throw new WireError(`samples of run ${String(runId)}`);
  }

  private list(peer: string): void {
    const { manifestHash, classes, splits, keys, modality } = this.dataset;
    const listing = {
      manifestHash,
      classes: [...classes],
      trainLength: splits.train.length,
      testLength: splits.test.length,
      texts: modality === "text",
      paired: keys !== undefined,
    };
    this.send(peer, { body: "listing", listing }, toFrames(splits.train.labels, splits.test.labels));
  }

  private sourceOf({ test, key }: Wanted): ImageSource | TextSource | undefined {
    const { splits, keys } = this.dataset;
    return (key ? keys : splits)?.[test ? "test" : "train"];
  }

  private pump(): void {
    while (this.reading < READS_AT_ONCE) {
      const [next] = this.peers;
      if (next === undefined) return;
      const [peer, queue] = next;
      // Behind the others, where it waits for more.
      this.peers.delete(peer);
      const wanted = queue.shift();
      if (queue.length > 0) this.peers.set(peer, queue);
      if (wanted !== undefined) void this.hand(peer, wanted);
    }
  }

  private async hand(peer: string, wanted: Wanted): Promise<void> {
    this.reading++;
    const { sample, bytes } = await this.read(wanted);
    this.reading--;
    this.sent++;
    this.send(peer, { body: "sample", sample: { ...wanted, ...sample } }, bytes === null ? [] : toFrames(bytes));
    this.pump();
  }

  private async read(
    wanted: Wanted,
  ): Promise<{ readonly sample: Omit<Sample, keyof Wanted>; readonly bytes: Uint8Array | null }> {
    const source = this.sourceOf(wanted);
    if (source === undefined) throw new Error("a source was there when the sample was asked for");
    const name = source.nameOf(wanted.index);
    try {
      if ("text" in source) return { sample: { name }, bytes: Buffer.from(source.text(wanted.index), "utf8") };
      if (isFileSource(source)) return { sample: { name }, bytes: await source.encoded(wanted.index) };
      const pixels = new Uint8Array(3 * this.decodeSize ** 2);
      await source.read(wanted.index, pixels, 0);
      return { sample: { name, pixels: true }, bytes: pixels };
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof CorruptSampleError)
        return { sample: { name: error.sampleName, code: "", message }, bytes: null };
      const code = error instanceof UserError ? error.code : "DATA_UNREADABLE";
      this.failed(new UserError(code, message));
      return { sample: { name, code, message }, bytes: null };
    }
  }
}
