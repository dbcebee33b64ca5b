/**
 * The worker's end of the samples plane. A bounded number of samples is on its way; what does not come is asked for again over a new
 * connection, for as long as the worker goes on: whether its run is still there, the control plane tells.
 */
import { clearInterval, setInterval } from "node:timers";
import { setImmediate } from "node:timers/promises";
import { CorruptSampleError } from "../src/data/index.js";
import { UserError } from "../src/protocol/errors.js";
import {
  sampleCodec,
  sampleRequestCodec,
  type Sample,
  type SampleListing,
  type SampleMessage,
  type SampleRequest,
} from "../src/protocol/wire.js";
import { DealerSocket, type ClientKeys } from "../src/transport/index.js";

/** Samples on their way to a worker at a time: with the largest photographs some hundred MB, with most a few. */
const MOST_ASKED = 64;
const PATIENCE_MS = 5000;
/** How often it looks at the clock, in ms. */
const TICK_MS = 100;

/** What identifies a sample. */
export interface SamplePlace {
  readonly test: boolean;
  readonly key: boolean;
  readonly index: number;
}

/** A sample as it has come. */
export interface SampleBytes {
  readonly name: string;
  /** 8-bit RGB of the run's decode size; otherwise a file as it is, or a text */
  readonly pixels: boolean;
  readonly bytes: Uint8Array;
}

export interface Listed {
  readonly listing: SampleListing;
  /** labels of the training split, then of the test split */
  readonly labels: Uint8Array;
}

interface Waiting {
  readonly place: SamplePlace;
  readonly promise: Promise<SampleBytes>;
  readonly resolve: (sample: SampleBytes) => void;
  readonly reject: (error: unknown) => void;
  isAsked: boolean;
}

export class SampleClient {
  private socket: DealerSocket<SampleMessage, SampleRequest> | null = null;
  private readonly waiting = new Map<string, Waiting>();
  private asked = 0;
  private listed: { readonly resolve: (listed: Listed) => void } | null = null;
  /** one a socket that is not closed yet */
  private readonly listening = new Set<Promise<void>>();
  private heardAt = performance.now();
  private isDue = false;
  private readonly timer: NodeJS.Timeout;

  /** @param endpoint of the samples plane */
  constructor(
    private endpoint: string,
    private readonly keys: ClientKeys | null,
    private readonly runId: string,
    /** silence after which what was asked for is asked for again, in ms */
    private readonly patienceMs = PATIENCE_MS,
  ) {
    this.connect();
    this.timer = setInterval(() => {
      this.tick();
    }, TICK_MS);
    this.timer.unref();
  }

  /** The coordinator is elsewhere from now on. */
  move(endpoint: string): void {
    if (endpoint === this.endpoint) return;
    this.endpoint = endpoint;
    this.connect();
  }

  listing(): Promise<Listed> {
    return new Promise((resolve) => {
      this.listed = { resolve };
      this.ask();
    });
  }

  /**
   * @throws CorruptSampleError where the coordinator says that it cannot be decoded
   * @throws UserError where it cannot read it
   */
  fetch(place: SamplePlace): Promise<SampleBytes> {
    const name = nameOf(place);
    const known = this.waiting.get(name);
    if (known !== undefined) return known.promise;
    let [resolve, reject]: [Waiting["resolve"], Waiting["reject"]] = [() => undefined, () => undefined];
    const promise = new Promise<SampleBytes>((done, failed) => {
      [resolve, reject] = [done, failed];
    });
    this.waiting.set(name, { place, promise, resolve, reject, isAsked: false });
    this.pumpSoon();
    return promise;
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.socket?.close(0);
    this.socket = null;
    await Promise.all(this.listening);
    // ZeroMQ's own end of it is let go in a turn of the loop to come.
    await setImmediate();
  }

  private connect(): void {
    this.socket?.close(0);
    const socket = new DealerSocket(sampleCodec, sampleRequestCodec, {
      keys: this.keys,
      misread: () => undefined,
      // ZeroMQ connects again by itself; what was lost is asked for again where nothing comes.
      closed: () => undefined,
    });
    this.socket = socket;
    socket.connect(this.endpoint);
    this.heardAt = performance.now();
    for (const waiting of this.waiting.values()) waiting.isAsked = false;
    this.asked = 0;
    const listening = this.listen(socket).finally(() => this.listening.delete(listening));
    this.listening.add(listening);
    if (this.listed !== null) this.ask();
    this.pumpSoon();
  }

  private async listen(socket: DealerSocket<SampleMessage, SampleRequest>): Promise<void> {
    await socket.listen((message, frames) => {
      if (socket !== this.socket) return;
      this.heardAt = performance.now();
      if (message.body === "listing") {
        this.listed?.resolve({ listing: message.listing, labels: Buffer.concat(frames) });
        this.listed = null;
      } else if (message.body === "sample") this.take(message.sample, frames);
    });
  }

  private take({ test, key, index, name, pixels, code, message }: Sample, frames: readonly Uint8Array[]): void {
    const place = nameOf({ test: test === true, key: key === true, index: index ?? 0 });
    const waiting = this.waiting.get(place);
    if (waiting === undefined) return;
    this.waiting.delete(place);
    if (waiting.isAsked) this.asked--;
    if (typeof code !== "string")
      waiting.resolve({ name: name ?? "", pixels: pixels === true, bytes: Buffer.concat(frames) });
    else if (code === "") waiting.reject(new CorruptSampleError(name ?? ""));
    else waiting.reject(new UserError(code, `the coordinator, which streams the samples: ${message ?? ""}`));
    this.pumpSoon();
  }

  private tick(): void {
    const isWaiting = this.asked > 0 || this.listed !== null;
    if (!isWaiting) this.heardAt = performance.now();
    else if (performance.now() - this.heardAt > this.patienceMs) this.connect();
  }

  private ask(): void {
    this.socket?.post({ body: "ask", ask: { runId: this.runId } });
  }

  /** Once for all that are asked for at a time. */
  private pumpSoon(): void {
    if (this.isDue) return;
    this.isDue = true;
    queueMicrotask(() => {
      this.isDue = false;
      this.pump();
    });
  }

  private pump(): void {
    if (this.asked >= MOST_ASKED) return;
    if (this.asked === 0) this.heardAt = performance.now();
    const groups = new Map<string, { test: boolean; key: boolean; indices: number[] }>();
    for (const waiting of this.waiting.values()) {
      if (waiting.isAsked) continue;
      const { test, key, index } = waiting.place;
      const name = `${String(test)}/${String(key)}`;
      const group = groups.get(name) ?? { test, key, indices: [] };
      group.indices.push(index);
      groups.set(name, group);
      waiting.isAsked = true;
      if (++this.asked >= MOST_ASKED) break;
    }
    for (const group of groups.values()) this.socket?.post({ body: "want", want: { runId: this.runId, ...group } });
  }
}

function nameOf({ test, key, index }: SamplePlace): string {
  return `${test ? "test" : "train"}/${key ? "key" : "query"}/${String(index)}`;
}
