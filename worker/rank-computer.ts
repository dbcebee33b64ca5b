/** Executes logical ranks on this worker's device: one training step's part, or features for an evaluation. */
import {
  exchangesKeys,
  queueRowLength,
  roundsOf,
  shownLength,
  shownShape,
  usesExchange,
  usesLabels,
  usesQueue,
  weightsPrecision,
} from "../src/config/derived.js";
import type { RunConfig } from "../src/config/schema.js";
import type { Batch } from "../src/data/loader.js";
import { inverseOf, keyOrder, shuffled } from "../src/data/permutation.js";
import type { SampleValues } from "../src/data/run-samples.js";
import { CompiledStep, readTimestamp, tf, type Tensor, type Tensor1D, type Tensor2D } from "../src/engine/index.js";
import { backboneFeatures } from "../src/evaluation/features.js";
import { gradientLength } from "../src/models/exchange.js";
import { encoderOf, type BufferSpec, type Encoder } from "../src/models/index.js";
import { roundedWeights, roundings } from "../src/models/packed-weights.js";
import { HandOver } from "../src/native/hand-over.js";
import { sliceOf, type Slice } from "../src/models/shards.js";
import { KeyQueue, type Exchanged } from "../src/objectives/index.js";
import { VectorArena, type TreeNode } from "../src/optim/index.js";
import { sha256OfFloats } from "../src/protocol/digest.js";
import { Purpose, Stream } from "../src/protocol/philox.js";
import { STATISTIC } from "../src/protocol/rank-metrics.js";
import type { FlushRequest, Place, RunRequest, Unanswered } from "./compute-thread.js";
import { Lockstep, type Span } from "./lockstep.js";
import { isFiniteThroughout } from "./non-finite.js";
import { PartialSums, type Exit } from "./partial-sums.js";
import type { HandedOut, RankReport } from "./session-ports.js";
import {
  prepareStep,
  shufflesWithin,
  type LockstepInputs,
  type PreparedStep,
  type RankInputs,
  type RankResult,
  type SampleInputs,
} from "./rank-step.js";
import type { WeightVectors } from "./incoming-weights.js";
import type { WeightsInShards } from "./sharded-weights.js";
import { sampleKind, type SampleKind } from "./sample-tensors.js";

/** What a rank gives; partial sums are unwritten until a rank of another step is run. */
export type RankOutcome = Omit<RankReport, "loadMs">;

/** Where a rank's gradient goes. */
interface Landing {
  /** in the order of θ; statistics are behind the last one's gradients */
  readonly stretches: readonly { readonly slice: Slice; readonly tensors: number; readonly values: Float32Array }[];
  /** of each shard, as it is handed out; null: it is summed up here */
  readonly slices: HandedOut["slices"] | null;
  /** of the arena, in which stretches lie; null: none does */
  readonly vector: Float32Array | null;
}

function valuesOf(tensor: Tensor): Float32Array {
  return tensor.dataSync() as Float32Array;
}

/** @param time by the wall clock, in ms @returns ms of the spans that lie before it */
function spentUntil(time: number, spans: readonly Span[]): number {
  return spans.reduce((sum, { from, ms }) => sum + Math.min(ms, Math.max(0, time - from)), 0);
}

export class RankComputer {
  private weights: { version: number; query: Tensor[]; key: Tensor[]; buffers: Map<string, Tensor1D> } | null = null;
  /** θq as evaluations of steps in bfloat16 take it; null: not asked for since there are new weights */
  private resting: readonly Tensor[] | null = null;
  private queue: KeyQueue | null = null;
  private queueTensor: Tensor2D | null = null;
  /** float32 `[W, E]`: what the ranks of the open step show each other */
  private shown: Float32Array | null = null;
  private readonly arena = new VectorArena();
  private readonly sums: PartialSums;
  /** where the step's graph puts gradients */
  private readonly handOver: HandOver;
  private readonly table: Tensor;
  /** whether the step gives statistics of the key encoder, as its last run did */
  private keyStatisticsCome = false;
  private readonly kind: SampleKind;

  private constructor(
    private readonly config: RunConfig,
    readonly encoder: Encoder,
    private readonly step: PreparedStep | Lockstep,
  ) {
    const { worldSize, gradients } = config.parallel;
    this.sums = new PartialSums(encoder.layout, worldSize, gradients, this.arena);
    const { parameters, buffers } = encoder.layout;
    this.handOver = new HandOver([...parameters, ...buffers, ...buffers].map(({ size }) => size));
    this.table = tf.scalar(this.handOver.number, "int32");
    this.kind = sampleKind(config);
  }

  /** @param warn hears why the step runs eagerly although the config says compiled */
  static async prepare(config: RunConfig, warn: (message: string) => void): Promise<RankComputer> {
    const encoder = await encoderOf(config);
    const step = await prepareStep(config, encoder, warn);
    // With rounds at every layer, a rank that is begun anew again and again would never end.
    const most = config.model.syncBatchNorm ? Infinity : config.engine.heldRanks;
    return new RankComputer(config, encoder, step instanceof CompiledStep ? new Lockstep(step, most) : step);
  }

  /** Whether ranks stand still in the midst of their step. */
  get stands(): boolean {
    return this.step instanceof Lockstep;
  }

  /** how steps really run */
  get mode(): PreparedStep["mode"] {
    return this.step instanceof Lockstep ? "compiled" : this.step.mode;
  }

  /** whether steps round to bfloat16 what they multiply by, so that it may travel so */
  get takesBfloat16(): boolean {
    return this.mode === "compiled" && weightsPrecision(this.config) === "bf16";
  }

  /** Values that a rank shows the others in each round of a step. */
  get rounds(): readonly number[] {
    if (this.step instanceof Lockstep) return this.step.rounds;
    return roundsOf(this.config, this.encoder.layout.bufferCount) ?? [];
  }

  /** Null: a rank can be brought to this place. */
  private obstacle(place: Place, batch: Batch | null): Unanswered | null {
    const { step } = this;
    if (step instanceof Lockstep && !step.isOpen(place)) return "over";
    return batch === null && !(step instanceof Lockstep && step.stands(place)) ? "needs-batch" : null;
  }

  /** @param weights must stay unwritten until the next call */
  setWeights({ version, shards }: WeightsInShards<WeightVectors>): void {
    if (this.step instanceof Lockstep) this.step.clear();
    if (this.weights !== null) {
      tf.dispose([this.weights.query, this.weights.key]);
      for (const buffer of this.weights.buffers.values()) buffer.dispose();
    }
    if (this.resting !== null) tf.dispose([...this.resting]);
    this.resting = null;
    const { layout } = this.encoder;
    const { buffers } = layout;
    const layouts = this.sums.cut(shards.length).map(({ layout: own }) => own);
    const tensors = (part: "query" | "key") =>
      layouts.flatMap(({ parameters }, index) =>
        parameters.map(({ shape, ...slice }) => tf.tensor(sliceOf(shards[index][part], slice), [...shape])),
      );
    const { buffers: values } = shards[shards.length - 1];
    const bufferOf = (spec: BufferSpec) => tf.tensor1d(sliceOf(values, spec));
    this.weights = {
      version,
      query: tensors("query"),
      key: tensors("key"),
      buffers: new Map(buffers.map((spec) => [spec.name, bufferOf(spec)])),
    };
  }

  /**
   * @param position row that the next key overwrites
   * @param keys float32 `[K, D]`, or `[K, D + 1]` with labels
   */
  setQueue(position: number, keys: Float32Array): void {
    const { queueSize } = this.config.moco;
    this.queue = KeyQueue.restore(keys, queueSize, queueRowLength(this.config), position);
    this.renewQueueTensor();
  }

  /** hex sha256 of the queue's ring */
  queueDigest(): string {
    return sha256OfFloats(this.queue?.keys ?? new Float32Array(0));
  }

  /** @param block float32 `[W·B, D]`, or `[W·B, D + 1]` with labels: the keys of one step in rank order */
  appendKeys(block: Float32Array): void {
    if (this.queue === null) throw new Error("keys came before the queue");
    this.queue.append(block);
    this.renewQueueTensor();
  }

  /**
   * What a rank shows the others: float32 `[E]`, embeddings and, where they are the key encoder's, its batch statistics; or what batch
   * norm of the global batch is to sum.
   * @param batch null: the rank is expected to stand still before the round
   */
  embed(place: Place, batch: Batch | null): Float32Array | Unanswered {
    const { weights, encoder, config, step } = this;
    const obstacle = this.obstacle(place, batch);
    if (obstacle !== null) return obstacle;
    if (step instanceof Lockstep) return step.show(place, () => this.lockstepInputs(batch));
    if (weights === null || step.show === null || batch === null)
      throw new Error("embeddings were asked for and there are none");
    const samples = this.sampleInputs(batch);
    const { result } = step.show({ ...samples, query: weights.query, key: weights.key });
    const values = new Float32Array(shownLength(config, encoder.layout.bufferCount));
    let offset = 0;
    for (const tensor of [result.embeddings, ...result.statistics]) {
      values.set(valuesOf(tensor), offset);
      offset += tensor.size;
    }
    tf.dispose([result, samples] as never);
    return values;
  }

  /** @param block float32 `[W, E]`: what all ranks have shown in a round */
  setEmbeddings(step: number, round: number, block: Float32Array): void {
    if (this.step instanceof Lockstep) this.step.take(step, round, block);
    else this.shown = block;
  }

  /**
   * A rank's part of a step, with the partial sums gathered so far in it if the request says `flush`.
   * @param begun hears, before its gradient is there, where each shard of it will be, if nothing is to be done to it
   */
  run(
    { step, rank, batch, link, flush, memories, run }: RunRequest,
    begun: (run: number, slices: HandedOut["slices"]) => void = () => undefined,
  ): RankOutcome | Unanswered {
    const [from, start] = [Date.now(), performance.now()];
    const place = { step, rank, round: this.rounds.length };
    const obstacle = this.obstacle(place, batch);
    if (obstacle !== null) return obstacle;
    if (!this.sums.open({ link, step })) return "over";
    const exits = flush ? this.sums.exits(memories) : null;
    const landing = this.landing(exits);
    this.aim(landing);
    if (run !== null && landing.slices !== null && this.mode === "compiled") {
      begun(run, landing.slices);
      this.awaitShards(landing, run);
    }
    const { result, graphMs, inputs, before } = this.execute(place, batch);
    const faulty = this.gather(result, rank, landing);
    const nodes = this.sum({ level: 0, index: rank }, landing, exits);
    const scalar = (value: Tensor) => value.dataSync()[0];
    const outcome = {
      keys: result.rows === null ? new Float32Array(0) : valuesOf(result.rows),
      loss: scalar(result.loss),
      accuracy: scalar(result.accuracy),
      positiveSimilarity: scalar(result.positiveSimilarity),
      negativeSimilarity: scalar(result.negativeSimilarity),
    };
    const forwardDoneAt = readTimestamp(result.forwardDoneAt);
    tf.dispose([result, inputs] as never);
    const spans = [...before, { from, ms: performance.now() - start }];
    const [forwardMs, wholeMs] = [spentUntil(forwardDoneAt, spans), spentUntil(Infinity, spans)];
    const nonFinite = Number.isFinite(outcome.loss) ? faulty : "loss";
    return { ...outcome, nonFinite, nodes, forwardMs, backwardMs: wholeMs - forwardMs, graphMs };
  }

  /**
   * Backbone features of samples at rest by the query encoder with running batch-norm statistics.
   * @returns float32 `[count, featureDim]`
   */
  features(samples: SampleValues): Float32Array {
    const { weights, encoder, config } = this;
    if (weights === null) throw new Error("features were asked for before there were weights");
    // Whether they have travelled rounded does not show.
    const isRounded = weightsPrecision(config) === "bf16";
    const parameters = isRounded ? (this.resting ??= this.inBfloat16(weights.query)) : weights.query;
    const frozen = { encoder, parameters, buffers: weights.buffers };
    return backboneFeatures(frozen, samples, config.data);
  }

  /** Parameters as steps in bfloat16 take them. The tensors are the caller's. */
  private inBfloat16(parameters: readonly Tensor[]): readonly Tensor[] {
    return this.encoder.layout.parameters.map((spec, index) => {
      const values = valuesOf(parameters[index]);
      const rounded = roundedWeights(this.arena, values, roundings([{ ...spec, offset: 0 }]));
      const tensor = tf.tensor(rounded.slice(), [...spec.shape]);
      this.arena.release(rounded);
      return tensor;
    });
  }

  /** @returns the result, what the caller disposes of beside it, and when the rank was worked on before */
  private execute(
    place: Place,
    batch: Batch | null,
  ): { result: RankResult; graphMs: number; inputs: object; before: readonly Span[] } {
    const { step } = this;
    if (step instanceof Lockstep) return { ...step.finish(place, () => this.lockstepInputs(batch)), inputs: {} };
    if (batch === null) throw new Error("a rank was run without a batch");
    const inputs = { ...this.sampleInputs(batch), ...this.stepInputs(batch) };
    return { ...step.run({ ...inputs, ...this.stateInputs() }), inputs, before: [] };
  }

  private stateInputs(): Pick<RankInputs, "query" | "key" | "queue" | "table"> {
    const { weights, queueTensor: queue, table } = this;
    if (weights === null || (queue === null && usesQueue(this.config)))
      throw new Error("a rank was run before weights and queue were there");
    return { query: weights.query, key: weights.key, queue, table };
  }

  private lockstepInputs(batch: Batch | null): LockstepInputs {
    if (batch === null) throw new Error("a rank was begun without a batch");
    return { ...this.stateInputs(), ...this.sampleInputs(batch), keyShuffle: null, own: this.ownOf(batch.rank) };
  }

  /** float32 `[W]`: 1 for the rank, 0 for the others */
  private ownOf(rank: number): Tensor1D {
    const { worldSize } = this.config.parallel;
    return tf.tensor1d(Float32Array.from({ length: worldSize }, (_, index) => (index === rank ? 1 : 0)));
  }

  private renewQueueTensor(): void {
    if (this.step instanceof Lockstep) this.step.clear();
    this.queueTensor?.dispose();
    if (this.queue !== null && usesQueue(this.config))
      this.queueTensor = tf.tensor2d(this.queue.keys.slice(), [this.queue.size, this.queue.dimension]);
  }

  private sampleInputs(batch: Batch): SampleInputs {
    return {
      samples: this.kind.of(batch),
      labels: usesLabels(this.config) ? tf.tensor1d(Float32Array.from(batch.labels)) : null,
    };
  }

  private stepInputs(batch: Batch): Pick<RankInputs, "keyShuffle" | "exchanged"> {
    return {
      keyShuffle: shufflesWithin(this.config) ? this.keyShuffle(batch) : null,
      exchanged: usesExchange(this.config) ? this.exchangedFor(batch) : null,
    };
  }

  /** Shuffling BN within the rank: a seeded order of the key batch and its inverse. */
  private keyShuffle({ step, rank }: Batch): { order: Tensor1D; inverse: Tensor1D } {
    const draws = new Stream(this.config.seed, { purpose: Purpose.keyShuffle, epoch: step, sample: rank });
    const order = shuffled(draws, this.config.parallel.batchSize);
    return { order: tf.tensor1d(order, "int32"), inverse: tf.tensor1d(inverseOf(order), "int32") };
  }

  /** What all ranks have shown, as this one sees it. */
  private exchangedFor({ step, rank }: Batch): Exchanged {
    const { config, encoder, shown } = this;
    if (shown === null) throw new Error("a rank was run before the embeddings were there");
    const { worldSize, batchSize } = config.parallel;
    const { rows, width } = shownShape(config, encoder.layout.bufferCount);
    const length = shownLength(config, encoder.layout.bufferCount);
    const block = new Float32Array(worldSize * rows * width);
    for (let from = 0; from < worldSize; from++)
      block.set(shown.subarray(from * length, from * length + rows * width), from * rows * width);
    const places = () =>
      inverseOf(keyOrder(config.seed, step, worldSize, batchSize)).slice(rank * batchSize, (rank + 1) * batchSize);
    return {
      block: tf.tensor2d(block, [worldSize * rows, width]),
      own: this.ownOf(rank),
      rows: usesQueue(config) ? tf.tensor1d(places(), "int32") : null,
    };
  }

  /** Hands out the partial sums gathered so far. */
  flush({ memories, ...occasion }: FlushRequest): readonly HandedOut[] {
    return this.sums.open(occasion) ? this.sums.handOut(this.sums.exits(memories)) : [];
  }

  /** Where a rank's gradient goes while it is computed: each shard of it to its own exit, if nothing is to be done to it on the way. */
  private landing(exits: readonly Exit[] | null): Landing {
    const { layout } = this.encoder;
    const isStraight = exits !== null && this.sums.isEmpty && this.sums.rounded === 0;
    const isShared = isStraight && exits.every(({ memory }) => memory !== null);
    const vector = isShared ? null : this.arena.take(gradientLength(layout));
    const whole = {
      slice: { offset: 0, size: gradientLength(layout) },
      tensors: layout.parameters.length,
      memory: null,
    };
    const stretches = (isStraight ? exits : [whole]).map(({ memory, ...own }) => {
      return { ...own, values: memory ?? sliceOf(vector ?? new Float32Array(0), own.slice) };
    });
    const slices = isStraight
      ? exits.map(({ memory }, shard) => (memory === null ? [stretches[shard].values] : null))
      : null;
    return { stretches, slices, vector };
  }

  private aim({ stretches }: Landing): void {
    let first = 0;
    for (const { tensors, values } of stretches) this.handOver.aim(first, (first += tensors), values);
    this.handOver.aim(first, this.handOver.lengths.length, this.statisticsIn(stretches));
  }

  /** Each shard that the graph fills by itself; the last has statistics, of which some come from elsewhere. */
  private awaitShards({ stretches }: Landing, run: number): void {
    const comeByThemselves =
      this.keyStatisticsCome && !(exchangesKeys(this.config) && !(this.step instanceof Lockstep));
    let first = 0;
    for (const [shard, { tensors }] of stretches.entries()) {
      const isLast = shard === stretches.length - 1;
      const end = isLast ? this.handOver.lengths.length : first + tensors;
      if (!isLast || comeByThemselves) this.handOver.await(first, end, run, shard);
      first += tensors;
    }
  }

  /** Behind the gradients: those of the query encoder, then those of the key encoder. */
  private statisticsIn(stretches: Landing["stretches"]): Float32Array {
    const { values } = stretches[stretches.length - 1];
    return values.subarray(values.length - 2 * this.encoder.layout.bufferCount);
  }

  /**
   * What is summed over the ranks, where it belongs: gradients, then the batch-norm statistics of the query and of the key encoder.
   * @returns the first that is not finite: a parameter's name, or what else it is; null: all are
   */
  private gather(result: RankResult, rank: number, { stretches }: Landing): string | null {
    const { parameters, bufferCount } = this.encoder.layout;
    const landed = this.mode === "compiled" ? this.handOver.landed() : this.put(result.gradients, stretches);
    const statistics = this.statisticsIn(stretches);
    this.keyStatisticsCome = result.keyStatistics.length > 0;
    if (this.mode === "eager") {
      let offset = 0;
      for (const own of [...result.queryStatistics, ...result.keyStatistics].map(valuesOf)) {
        statistics.set(own, offset);
        offset += own.length;
      }
    }
    if (exchangesKeys(this.config) && !(this.step instanceof Lockstep)) {
      const length = shownLength(this.config, bufferCount);
      const end = (rank + 1) * length;
      statistics.set((this.shown ?? new Float32Array(end)).subarray(end - bufferCount, end), bufferCount);
    } else if (!this.keyStatisticsCome) statistics.copyWithin(bufferCount, 0, bufferCount);
    if (landed !== null && landed < parameters.length) return parameters[landed].name;
    return isFiniteThroughout(statistics) ? null : STATISTIC;
  }

  /** Gradients of an eager step. @returns the first that is not finite; null: all are */
  private put(gradients: readonly Tensor[], stretches: Landing["stretches"]): number | null {
    let faulty: number | null = null;
    for (const [index, { offset }] of this.encoder.layout.parameters.entries()) {
      const stretch = stretches.findLast(({ slice }) => slice.offset <= offset) ?? stretches[0];
      const own = valuesOf(gradients[index]);
      stretch.values.set(own, offset - stretch.slice.offset);
      if (faulty === null && !isFiniteThroughout(own)) faulty = index;
    }
    return faulty;
  }

  /** @returns what is handed out of the rank's sum and those before it */
  private sum(leaf: TreeNode, { slices, vector }: Landing, exits: readonly Exit[] | null): readonly HandedOut[] {
    if (slices !== null) {
      if (vector !== null) this.sums.lend(vector);
      return [{ node: leaf, slices }];
    }
    if (vector === null) throw new Error("a sum without a vector");
    this.arena.round(vector.subarray(0, this.sums.rounded));
    this.sums.add(leaf, vector);
    return exits === null ? [] : this.sums.handOut(exits);
  }
}
