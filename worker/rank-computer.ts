/** Executes logical ranks on this worker's device: one training step's part, or features for an evaluation. */
import { type RunConfig } from "../src/config/schema.js";
import { DRAW } from "../src/data/draws.js";
import type { Batch } from "../src/data/loader.js";
import { readTimestamp, tf, type Tensor, type Tensor1D, type Tensor2D } from "../src/engine/index.js";
import { backboneFeatures } from "../src/evaluation/features.js";
import { gradientLength, gradientPosition, segmentBytes } from "../src/models/exchange.js";
import { resnet, type BufferSpec, type Encoder } from "../src/models/index.js";
import { KeyQueue } from "../src/objectives/index.js";
import { SumTree, VectorArena } from "../src/optim/index.js";
import { sha256OfFloats } from "../src/protocol/digest.js";
import { Purpose, Stream } from "../src/protocol/philox.js";
import { SharedSegment } from "../src/transport/shared-segment.js";
import type { WeightVectors } from "./incoming-weights.js";
import type { RunRequest } from "./compute-thread.js";
import { isFiniteThroughout } from "./non-finite.js";
import type { HandedOut, RankReport } from "./session.js";
import { prepareRankStep, type PreparedStep, type RankInputs } from "./rank-step.js";

/** What a rank gives; partial sums are unwritten until a rank of another step is run. */
export type RankOutcome = Omit<RankReport, "loadMs">;

function valuesOf(tensor: Tensor): Float32Array {
  return tensor.dataSync() as Float32Array;
}

export class RankComputer {
  private weights: { version: number; query: Tensor[]; key: Tensor[]; buffers: Map<string, Tensor1D> } | null = null;
  private queue: KeyQueue | null = null;
  private queueTensor: Tensor2D | null = null;
  private readonly arena = new VectorArena();
  private readonly sums: SumTree;
  /** link and step of the sums gathered and handed out */
  private summed = "";
  private readonly handedOut: Float32Array[] = [];

  private constructor(
    private readonly config: RunConfig,
    readonly encoder: Encoder,
    private readonly step: PreparedStep,
  ) {
    this.sums = new SumTree(config.parallel.worldSize, this.arena);
  }

  /** @param warn hears why the step runs eagerly although the config says compiled */
  static async prepare(config: RunConfig, warn: (message: string) => void): Promise<RankComputer> {
    const encoder = resnet(config.model);
    return new RankComputer(config, encoder, await prepareRankStep(config, encoder, warn));
  }

  /** how steps really run */
  get mode(): PreparedStep["mode"] {
    return this.step.mode;
  }

  /** @param vectors must stay unwritten until the next call */
  setWeights(version: number, vectors: WeightVectors): void {
    if (this.weights !== null) {
      tf.dispose([this.weights.query, this.weights.key]);
      for (const buffer of this.weights.buffers.values()) buffer.dispose();
    }
    const { parameters, buffers } = this.encoder.layout;
    const tensors = (vector: Float32Array) =>
      parameters.map(({ offset, size, shape }) => tf.tensor(vector.subarray(offset, offset + size), [...shape]));
    const bufferOf = ({ offset, size }: BufferSpec) => tf.tensor1d(vectors.buffers.subarray(offset, offset + size));
    this.weights = {
      version,
      query: tensors(vectors.query),
      key: tensors(vectors.key),
      buffers: new Map(buffers.map((spec) => [spec.name, bufferOf(spec)])),
    };
  }

  /**
   * @param position row that the next key overwrites
   * @param keys float32 `[K, D]`
   */
  setQueue(position: number, keys: Float32Array): void {
    const { queueSize } = this.config.moco;
    this.queue = KeyQueue.restore(keys, queueSize, this.config.model.embeddingDim, position);
    this.renewQueueTensor();
  }

  /** hex sha256 of the queue's ring */
  queueDigest(): string {
    return sha256OfFloats(this.queue?.keys ?? new Float32Array(0));
  }

  /** @param block float32 `[W·B, D]`, the keys of one step in rank order */
  appendKeys(block: Float32Array): void {
    if (this.queue === null) throw new Error("keys came before the queue");
    this.queue.append(block);
    this.renewQueueTensor();
  }

  /** A rank's part of a step, with the partial sums gathered so far in it if the request says `flush`. */
  run({ batch, link, flush, segment }: RunRequest): RankOutcome {
    const { weights, queueTensor: queue } = this;
    if (weights === null || queue === null) throw new Error("a rank was run before weights and queue were there");
    const [startedAt, start] = [Date.now(), performance.now()];
    this.openStep(`${String(link)}/${String(batch.step)}`);
    const inputs = this.batchInputs(batch);
    const { result, graphMs } = this.step.run({ ...inputs, query: weights.query, key: weights.key, queue });
    const parts = [...result.gradients, ...result.queryStatistics, ...result.keyStatistics];
    const memory = segment === null ? null : SharedSegment.ofFile(segment, segmentBytes(this.encoder.layout));
    const { parameters } = this.encoder.layout;
    const { nodes, faulty } = this.sum(batch, parts, flush, memory);
    const scalar = (value: Tensor) => value.dataSync()[0];
    const outcome = {
      keys: result.keys.dataSync() as Float32Array,
      loss: scalar(result.loss),
      accuracy: scalar(result.accuracy),
      positiveSimilarity: scalar(result.positiveSimilarity),
      negativeSimilarity: scalar(result.negativeSimilarity),
    };
    const forwardMs = Math.max(0, readTimestamp(result.forwardDoneAt) - startedAt);
    tf.dispose([result, inputs] as never);
    const wholeMs = performance.now() - start;
    const where = faulty === null ? null : (parameters[faulty]?.name ?? "a batch-norm statistic");
    const nonFinite = Number.isFinite(outcome.loss) ? where : "loss";
    return { ...outcome, nonFinite, nodes, forwardMs, backwardMs: Math.max(0, wholeMs - forwardMs), graphMs };
  }

  /**
   * Backbone features of decoded images by the query encoder with running batch-norm statistics.
   * @param images uint8 `[count, S', S', 3]`
   * @returns float32 `[count, featureDim]`
   */
  features(images: Uint8Array): Float32Array {
    const { weights, encoder, config } = this;
    if (weights === null) throw new Error("features were asked for before there were weights");
    const frozen = { encoder, parameters: weights.query, buffers: weights.buffers };
    return backboneFeatures(frozen, images, config.data);
  }

  private renewQueueTensor(): void {
    this.queueTensor?.dispose();
    if (this.queue !== null)
      this.queueTensor = tf.tensor2d(this.queue.keys.slice(), [this.queue.size, this.queue.dimension]);
  }

  private batchInputs(batch: Batch): Pick<RankInputs, "pixels" | "drawsQuery" | "drawsKey" | "keyShuffle"> {
    const { decodeSize } = this.config.data;
    const { batchSize } = this.config.parallel;
    const draws = (values: Float32Array) => tf.tensor2d(values.slice(), [batchSize, DRAW.floats]);
    return {
      pixels: tf.tensor4d(new Float32Array(batch.images), [batchSize, decodeSize, decodeSize, 3]),
      drawsQuery: draws(batch.drawsQuery),
      drawsKey: draws(batch.drawsKey),
      keyShuffle: this.config.model.bnSplits === 1 ? null : this.keyShuffle(batch),
    };
  }

  /** Shuffling BN within the rank: a seeded order of the key batch and its inverse. */
  private keyShuffle({ step, rank }: Batch): { order: Tensor1D; inverse: Tensor1D } {
    const { batchSize } = this.config.parallel;
    const draws = new Stream(this.config.seed, { purpose: Purpose.keyShuffle, epoch: step, sample: rank });
    const order = Int32Array.from({ length: batchSize }, (_, position) => position);
    for (let last = batchSize - 1; last > 0; last--) {
      const other = draws.below(last + 1);
      [order[last], order[other]] = [order[other], order[last]];
    }
    const inverse = new Int32Array(batchSize);
    order.forEach((from, position) => (inverse[from] = position));
    return { order: tf.tensor1d(order, "int32"), inverse: tf.tensor1d(inverse, "int32") };
  }

  /** Hands out the partial sums gathered so far. */
  flush(): readonly (HandedOut & { readonly sum: Float32Array })[] {
    const nodes = this.sums.takeAll();
    this.handedOut.push(...nodes.map(({ sum }) => sum));
    return nodes;
  }

  /**
   * @param parts gradients, then statistics: each is read from the device once, and let go before the next
   * @returns partial sums, if asked for, and which of the parts is the first that is not finite
   */
  private sum({ rank }: Batch, parts: readonly Tensor[], flush: boolean, memory: SharedSegment | null) {
    const { layout } = this.encoder;
    const leaf = { level: 0, index: rank };
    let faulty: number | null = null;
    const read = (put: (values: Float32Array) => void) => {
      for (const [index, part] of parts.entries()) {
        const values = valuesOf(part);
        if (faulty === null && !isFiniteThroughout(values)) faulty = index;
        put(values);
      }
    };
    if (memory !== null && flush && this.sums.nodes().length === 0) {
      // Straight to where it is wanted.
      let position = gradientPosition(layout);
      read((values) => {
        memory.write(position, values);
        position += values.byteLength;
      });
      return { nodes: [{ node: leaf, sum: null }], faulty };
    }
    const vector = this.arena.take(gradientLength(layout));
    let offset = 0;
    read((values) => {
      vector.set(values, offset);
      offset += values.length;
    });
    this.sums.add(leaf, vector);
    return { nodes: flush ? this.handOut(memory) : [], faulty };
  }

  private handOut(memory: SharedSegment | null): readonly HandedOut[] {
    const nodes = this.flush();
    if (memory === null) return nodes;
    const [first, ...rest] = nodes;
    memory.write(gradientPosition(this.encoder.layout), first.sum);
    return [{ node: first.node, sum: null }, ...rest];
  }

  /** Another step begins, so the last one is over: whatever was sent of it has arrived, or nobody waits for it. */
  private openStep(name: string): void {
    if (name === this.summed) return;
    this.summed = name;
    this.sums.clear();
    for (const vector of this.handedOut.splice(0)) this.arena.release(vector);
  }
}
