/** What a worker's session touches outside itself, and what crosses that border. */
import type { BatchUse } from "../src/data/loader.js";
import type { RunConfig } from "../src/config/schema.js";
import type { UserError } from "../src/protocol/errors.js";
import type { RankMetrics } from "../src/protocol/rank-metrics.js";
import type {
  AggregatorAddress,
  FeatureRequest,
  SegmentOffer,
  Weights,
  WorkerDataMessage,
  WorkerMessage,
} from "../src/protocol/wire.js";
import type { TreeNode } from "../src/optim/index.js";
import type { Arrived } from "./sharded-weights.js";

/** Where a worker without a data set has its samples from. */
export interface SampleOrigin {
  readonly runId: string;
  /** port of the coordinator's samples plane; null: it sends none */
  readonly port: number | null;
}

/** What engine and data set turn out to be. */
export interface Prepared {
  readonly manifestHash: string;
  /** samples of each split */
  readonly splitLengths: Readonly<Record<FeatureSlice["split"], number>>;
  readonly engineFingerprint: string;
  /** of θ, at whose borders it is cut into parameter shards */
  readonly tensors: number;
  /** as messages name it */
  readonly device: string;
  /** that compute at once; ports know each by its number */
  readonly devices: number;
  /** whether the step rounds to bfloat16 what it multiplies by */
  readonly takesBfloat16: boolean;
  /** values that a rank shows the others in each round of a step */
  readonly rounds: readonly number[];
}

/** A partial sum that is handed out: its slice for each parameter shard, as it travels; null: that lies in the shard's segment. */
export interface HandedOut {
  readonly node: TreeNode;
  readonly slices: readonly (readonly Float32Array[] | null)[];
}

/** What one rank gives. */
export interface RankReport extends Omit<RankMetrics, "exchangeMs" | "sentBytes" | "receivedBytes"> {
  readonly nodes: readonly HandedOut[];
  /** float32 `[B, D]`, or `[B, D + 1]` with labels: what enters the queue */
  readonly keys: Float32Array;
  /** "loss", or the first parameter whose gradient is not finite; null: all is finite */
  readonly nonFinite: string | null;
}

export interface FeatureSlice {
  readonly split: "train" | "test";
  readonly start: number;
  readonly count: number;
}

/** Everything outside that the session touches. Answers come by the session's methods, with the link they belong to. */
export interface SessionPorts {
  /** monotonic clock in ms */
  readonly now: () => number;
  /** in [0, 1) */
  readonly random: () => number;
  /** opens a control connection; what comes of it is told with this number. The one before is closed by now. */
  readonly connect: (link: number) => void;
  /** closes the connections of the link */
  readonly disconnect: () => void;
  readonly say: (message: WorkerMessage, frames: readonly Uint8Array[]) => void;
  /**
   * Opens the data connections, one to each aggregator, offering memory to share where there is some.
   * @param open the first message on each, to which the offer is added
   * @throws WireError where an address is none
   */
  readonly openData: (
    link: number,
    aggregators: readonly AggregatorAddress[],
    open: WorkerDataMessage & { readonly body: "open" },
  ) => void;
  /** an aggregator has taken the offer. @throws WireError where its memory is out of reach */
  readonly takeMemory: (aggregator: number, theirs: SegmentOffer) => void;
  readonly tell: (aggregator: number, message: WorkerDataMessage, frames: readonly Uint8Array[]) => void;
  /** starts engine and data set; answered by `prepared` */
  readonly prepare: (config: RunConfig, source: SampleOrigin) => void;
  /** where samples come from may have changed with a new link */
  readonly samplesAt: (source: SampleOrigin) => void;
  /** digests of what is still held from an earlier link; answered by `proved` */
  readonly prove: (link: number, queueVersion: number) => void;
  /**
   * @returns the version, once the last bucket of the aggregator's shard has come, and at what bandwidth; null before
   * @throws WireError where the message does not fit
   */
  readonly takeWeights: (aggregator: number, header: Weights, frames: readonly Uint8Array[]) => Arrived | null;
  /** gives the weights taken last, all of one version, to the engine, after everything that it was given before; answered by `weightsLoaded` */
  readonly loadWeights: (link: number) => void;
  /** @throws WireError where the frames do not fit */
  readonly setQueue: (position: number, frames: readonly Uint8Array[]) => void;
  /** @throws WireError where the frames do not fit */
  readonly appendKeys: (frames: readonly Uint8Array[]) => void;
  /** answered by `embeddingsDone` */
  readonly embed: (link: number, device: number, step: number, rank: number, round: number) => void;
  /** what the ranks of the step have shown each other in a round @throws WireError where the frames do not fit */
  readonly setEmbeddings: (step: number, round: number, frames: readonly Uint8Array[]) => void;
  /** answered by `rankDone`; `flush` hands out the device's partial sums so far: where there are several, to each other */
  readonly run: (
    link: number,
    device: number,
    step: number,
    rank: number,
    flush: boolean,
    /** whether `shardReady` is told meanwhile of each shard of its gradient that is whole, if nothing is to be added to it */
    early: boolean,
  ) => void;
  /** hands out the partial sums of all devices, none of which is at a rank; answered by `flushed` */
  readonly flush: (link: number, step: number) => void;
  readonly prefetch: (device: number, step: number, ranks: readonly number[], use: BatchUse) => void;
  /** answered by `featuresDone` */
  readonly features: (link: number, device: number, request: FeatureRequest, slice: FeatureSlice) => void;
  readonly log: (message: string) => void;
  /** error null: the run is over, or (`isGone`) the worker was asked to leave before */
  readonly ended: (error: UserError | null, isGone: boolean) => void;
}

export interface SessionOptions {
  /** how to call the coordinator's address in messages */
  readonly endpoint: string;
  readonly hello: {
    readonly protocolVersion: number;
    readonly softwareVersion: string;
    readonly host: string;
    readonly pid: number;
    readonly threads: number;
    readonly instance: string;
  };
  /** how long a coordinator may be away before the worker gives up, in ms */
  readonly patienceMs: number;
}
