/** What passes between the coordinator and an aggregator, as messages of the aggregation plane and back. */
import { isOptimizerKind, optimizerVectors, type UpdateRule } from "../src/config/optimizer.js";
import { WIRE_WEIGHTS, type Wire } from "../src/models/exchange.js";
import { fromFrames, toFrames } from "../src/protocol/frames.js";
import type { WorkerId } from "../src/protocol/identifiers.js";
import type { Begin, OrderMessage, ReportMessage } from "../src/protocol/wire.js";
import { WireError } from "../src/protocol/wire-error.js";
import { vectorsOf, type AggregatorOptions, type ShardLengths, type TrainingState } from "./aggregator.js";
import type { AggregatorCommand, AggregatorReport } from "./data-plane.js";

/** What an aggregator needs to know of the run, and of its shard. */
export interface AggregatorTask {
  readonly runId: string;
  readonly options: Omit<AggregatorOptions, "buckets">;
  readonly wire: Wire;
  /** silence after which a worker's connection is given up, in ms */
  readonly deadAfterMs: number;
}

export interface BeginOptions extends AggregatorTask {
  readonly heartbeatMs: number;
  /** CURVE public keys of those who may open a data connection; null: everybody may */
  readonly allowed: readonly string[] | null;
}

/** Values of a shard, and ranks of a run, at most: what one frame of 32 bits counts. */
const MOST = 2 ** 31;

export function beginOf(
  { runId, options, wire, deadAfterMs, heartbeatMs, allowed }: BeginOptions,
  state: TrainingState,
): Begin {
  const { layout, layers, worldSize, rule, gradients } = options;
  const { version, updates } = state;
  return {
    ...{ runId, version, updates, worldSize, rule, deadAfterMs, heartbeatMs },
    layers: layers.map(({ size, decay, adapt, bfloat16 }) => ({ size, decay, adapt, bfloat16 })),
    wireWeights: wire.weights,
    sharesMemory: wire.sharesMemory,
    bufferCount: layout.bufferCount,
    roundsGradients: gradients === "bf16",
    allowed: [...(allowed ?? [])],
  };
}

/**
 * @returns the task and the state that it begins with
 * @throws WireError where they do not fit
 */
export function begunBy(begin: Begin, frames: readonly Uint8Array[]): BeginOptions & { readonly state: TrainingState } {
  const { runId, version, updates, worldSize, deadAfterMs, heartbeatMs, bufferCount, layers: given, allowed } = begin;
  let parameterCount = 0;
  const layers = (given ?? []).map(({ size, decay, adapt, bfloat16 }) => {
    const treated = { decay: decay === true, adapt: adapt === true, bfloat16: bfloat16 === true };
    const layer = { offset: parameterCount, size: size ?? 0, ...treated };
    parameterCount += layer.size;
    return layer;
  });
  const layout = { parameterCount, bufferCount: bufferCount ?? 0 };
  const counts = [parameterCount, layout.bufferCount + 1, worldSize ?? 0, deadAfterMs ?? 0, heartbeatMs ?? 0];
  if (counts.some((count) => count < 1 || count >= MOST)) throw new WireError("a shard, or a run, that is none");
  const rule = ruleOf(begin.rule);
  const weights = WIRE_WEIGHTS.find((form) => form === begin.wireWeights);
  if (weights === undefined) throw new WireError(`weights that travel as ${String(begin.wireWeights)}`);
  return {
    runId: runId ?? "",
    options: {
      ...{ layout, layers, worldSize: worldSize ?? 0, rule },
      gradients: begin.roundsGradients === true ? "bf16" : "fp32",
    },
    wire: { weights, sharesMemory: begin.sharesMemory === true },
    deadAfterMs: deadAfterMs ?? 0,
    heartbeatMs: heartbeatMs ?? 0,
    allowed: allowed === undefined || allowed === null || allowed.length === 0 ? null : allowed,
    state: stateFrom({ version, updates }, frames, layout, rule),
  };
}

function ruleOf(given: Begin["rule"]): UpdateRule {
  const kind = given?.kind ?? "";
  const number = (name: Exclude<keyof NonNullable<Begin["rule"]>, "kind" | "$unknowns">) => given?.[name] ?? 0;
  const weightDecay = number("weightDecay");
  if (!isOptimizerKind(kind)) throw new WireError(`an optimizer ${kind}`);
  switch (kind) {
    case "sgd":
      return { kind, weightDecay, momentum: number("momentum") };
    case "lars":
      return { kind, weightDecay, momentum: number("momentum"), trustCoefficient: number("trustCoefficient") };
    case "adamw":
      return { kind, weightDecay, beta1: number("beta1"), beta2: number("beta2"), epsilon: number("epsilon") };
  }
}

export function framesOf(state: TrainingState): Uint8Array[] {
  return toFrames(...vectorsOf(state));
}

/** @throws WireError where the frames are not the shard's */
function stateFrom(
  { version, updates }: { readonly version?: number | null; readonly updates?: number | null },
  frames: readonly Uint8Array[],
  { parameterCount, bufferCount }: ShardLengths,
  rule: UpdateRule,
): TrainingState {
  const bytes = frames.reduce((sum, frame) => sum + frame.byteLength, 0);
  const values = (2 + optimizerVectors(rule.kind).length) * parameterCount + 2 * bufferCount;
  // Before memory is claimed for what a few bytes may speak of.
  if (bytes !== values * Float32Array.BYTES_PER_ELEMENT) throw new WireError(`a state of ${String(bytes)} bytes`);
  const parameters = () => new Float32Array(parameterCount);
  const buffers = () => new Float32Array(bufferCount);
  const state = {
    version: version ?? 0,
    updates: updates ?? 0,
    query: parameters(),
    key: parameters(),
    optimizer: optimizerVectors(rule.kind).map(parameters),
    queryBuffers: buffers(),
    keyBuffers: buffers(),
  };
  fromFrames(frames, ...vectorsOf(state));
  return state;
}

export function orderOf(command: AggregatorCommand): OrderMessage {
  switch (command.kind) {
    case "expect":
      return { body: "expect", expect: { worker: command.worker, ticket: command.ticket } };
    case "admit": {
      const { worker, holding } = command;
      return { body: "admit", admit: { worker, version: holding?.version, sha256: holding?.sha256 } };
    }
    case "forget":
      return { body: "forget", forget: { worker: command.worker } };
    case "measure":
      return { body: "measure", measure: { step: command.step } };
    case "apply": {
      const { step, rates } = command;
      return { body: "apply", apply: { step, skipped: rates === null, ...rates } };
    }
    case "capture":
      return { body: "capture", capture: {} };
    case "release":
      return { body: "release", release: { version: command.version } };
    case "tick":
      return { body: "alive", alive: {} };
  }
}

/** @returns null where it is none for the aggregator itself */
export function commandOf(order: OrderMessage): AggregatorCommand | null {
  const worker = (name: string | null | undefined) => (name ?? "") as WorkerId;
  switch (order.body) {
    case "expect":
      return { kind: "expect", worker: worker(order.expect.worker), ticket: order.expect.ticket ?? "" };
    case "admit": {
      const { version, sha256 } = order.admit;
      const holding = version === undefined || version === null ? null : { version, sha256: sha256 ?? "" };
      return { kind: "admit", worker: worker(order.admit.worker), holding };
    }
    case "forget":
      return { kind: "forget", worker: worker(order.forget.worker) };
    case "measure":
      return { kind: "measure", step: order.measure.step ?? 0 };
    case "apply": {
      const { step, skipped, learningRate, keyMomentum, clip } = order.apply;
      const rates = { learningRate: learningRate ?? 0, keyMomentum: keyMomentum ?? 0, clip: clip ?? 0 };
      return { kind: "apply", step: step ?? 0, rates: skipped === true ? null : rates };
    }
    case "capture":
      return { kind: "capture" };
    case "release":
      return { kind: "release", version: order.release.version ?? 0 };
    case "begin":
    case "alive":
    case "refused":
    case "finished":
    case "dropped":
    case undefined:
      return null;
  }
}

export function reportMessageOf(report: AggregatorReport): ReportMessage {
  switch (report.kind) {
    case "held":
      return { body: "held", held: { step: report.step, ranks: [...report.ranks] } };
    case "measured":
      return { body: "measured", measured: { step: report.step, squares: [...report.squares] } };
    case "applied":
      return { body: "applied", applied: { step: report.step, applyMs: report.applyMs } };
    case "captured": {
      const { version, updates } = report.state;
      return { body: "captured", captured: { version, updates } };
    }
    case "lost": {
      const { worker, ticket, reason } = report;
      return { body: "lost", lost: { worker, ticket, reason } };
    }
    case "dropped":
      return { body: "dropped", dropped: { reason: report.reason } };
  }
}

/**
 * @returns null where it is none of the aggregator itself
 * @throws WireError where the frames are not the shard's
 */
export function reportOf(
  message: ReportMessage,
  frames: readonly Uint8Array[],
  { layout, rule }: AggregatorTask["options"],
): AggregatorReport | null {
  switch (message.body) {
    case "held":
      return { kind: "held", step: message.held.step ?? 0, ranks: message.held.ranks ?? [] };
    case "measured":
      return { kind: "measured", step: message.measured.step ?? 0, squares: message.measured.squares ?? [] };
    case "applied":
      return { kind: "applied", step: message.applied.step ?? 0, applyMs: message.applied.applyMs ?? 0 };
    case "captured":
      return { kind: "captured", state: stateFrom(message.captured, frames, layout, rule) };
    case "lost": {
      const { worker, ticket, reason } = message.lost;
      return { kind: "lost", worker: (worker ?? "") as WorkerId, ticket: ticket ?? "", reason: reason ?? "" };
    }
    case "dropped":
      return { kind: "dropped", reason: message.dropped.reason ?? "" };
    case "hello":
    case "listening":
    case "alive":
    case "failed":
    case "leaving":
    case undefined:
      return null;
  }
}
