/**
 * The wire's messages as discriminated unions, and their codecs. The classes are generated from `proto/`; nothing else
 * imports them.
 */
import { tandem } from "./generated/wire.js";
import { WireError } from "./wire-error.js";

/** Raised with every change of `proto/` that an older process would misread. */
export const PROTOCOL_VERSION = 12;
/** Devices of one worker. */
export const MOST_DEVICES = 64;

/** Bound of one frame of the data plane: big tensors travel in pieces of it (fastest on loopback between 0.25 and 1 MB). */
export const CHUNK_BYTES = 512 * 1024;

/** Samples whose features are asked for at a time, at most. */
export const CHUNK_SAMPLES = 250;

export type WorkerMessage = tandem.control.FromWorker.$Shape;
export type CoordinatorMessage = tandem.control.FromCoordinator.$Shape;
export type WorkerDataMessage = tandem.data.FromWorker.$Shape;
export type AggregatorMessage = tandem.data.FromAggregator.$Shape;
/** From an aggregator's process to the coordinator, and back. */
export type ReportMessage = tandem.aggregation.FromAggregator.$Shape;
export type OrderMessage = tandem.aggregation.FromCoordinator.$Shape;
export type AggregatorHello = tandem.aggregation.Hello.$Shape;
export type Begin = tandem.aggregation.Begin.$Shape;
export type Weights = tandem.data.Weights.$Shape;
export type Hello = tandem.control.Hello.$Shape;
export type Ready = tandem.control.Ready.$Shape;
export type Holding = tandem.control.Holding.$Shape;
export type Features = tandem.control.Features.$Shape;
export type Drain = tandem.control.Drain.$Shape;
export type SampleRequest = tandem.samples.FromWorker.$Shape;
export type SampleMessage = tandem.samples.FromCoordinator.$Shape;
export type SampleListing = tandem.samples.Listing.$Shape;
export type Sample = tandem.samples.Sample.$Shape;
export type Gradient = tandem.data.Gradient.$Shape;
export type Received = tandem.data.Received.$Shape;
export type Open = tandem.data.Open.$Shape;
export type SegmentOffer = tandem.data.Segment.$Shape;
export type RankResult = tandem.control.RankResult.$Shape;
export type RankEmbeddings = tandem.control.RankEmbeddings.$Shape;
export type EmbeddingBlock = tandem.control.EmbeddingBlock.$Shape;
export type AggregatorAddress = tandem.control.Aggregator.$Shape;
export type Welcome = tandem.control.Welcome.$Shape;
export type Assignment = tandem.control.Assignment.$Shape;
export type QueueSnapshot = tandem.control.QueueSnapshot.$Shape;
export type QueueBlock = tandem.control.QueueBlock.$Shape;
export type FeatureRequest = tandem.control.FeatureRequest.$Shape;

export interface Codec<Message> {
  encode(message: Message): Uint8Array;
  /** @throws WireError where the bytes are no such message, or hold none of the known bodies */
  decode(bytes: Uint8Array): Message;
}

interface GeneratedClass {
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}

function codec<Message extends { body?: string | undefined }>(name: string, generated: GeneratedClass): Codec<Message> {
  return {
    encode: (message) => generated.encode(message).finish(),
    decode: (bytes) => {
      let message: Message;
      try {
        // pbjs types the narrowed union only on its own return type; the class checks the fields.
        message = generated.decode(bytes) as Message;
      } catch (cause) {
        throw new WireError(`${String(bytes.length)} bytes are no ${name}`, { cause });
      }
      if (message.body === undefined) throw new WireError(`a ${name} without a body that this version knows`);
      return message;
    },
  };
}

export const workerCodec = codec<WorkerMessage>("message from a worker", tandem.control.FromWorker);
export const coordinatorCodec = codec<CoordinatorMessage>("message from a coordinator", tandem.control.FromCoordinator);
export const workerDataCodec = codec<WorkerDataMessage>("data message from a worker", tandem.data.FromWorker);
export const aggregatorCodec = codec<AggregatorMessage>("data message from an aggregator", tandem.data.FromAggregator);
export const reportCodec = codec<ReportMessage>("report of an aggregator", tandem.aggregation.FromAggregator);
export const sampleRequestCodec = codec<SampleRequest>("request for samples", tandem.samples.FromWorker);
export const sampleCodec = codec<SampleMessage>("message of samples", tandem.samples.FromCoordinator);
export const orderCodec = codec<OrderMessage>("order to an aggregator", tandem.aggregation.FromCoordinator);
