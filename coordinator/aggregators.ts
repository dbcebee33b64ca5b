/**
 * The aggregators of a run as one: a command goes to all, and what they report counts once all have said it. No thread, socket
 * or clock in here.
 */
import type { ParameterLayout } from "../src/models/parameters.js";
import { sliceOf, type ParameterShard } from "../src/models/shards.js";
import { clipFactor } from "../src/optim/index.js";
import type { WorkerId } from "../src/protocol/identifiers.js";
import { optimizerVectors, type UpdateRule } from "../src/config/optimizer.js";
import type { StepRates, TrainingState } from "./aggregator.js";
import type { AggregatorCommand, AggregatorReport } from "./data-plane.js";

/** One aggregator, wherever it runs. */
export interface AggregatorHandle {
  command(command: AggregatorCommand): void;
  listen(listener: AggregatorListener): void;
}

export interface AggregatorListener {
  reported(report: AggregatorReport): void;
  /** it has ended by a fault of its own */
  failed(error: Error): void;
  /** it is gone, and its shard with it */
  gone(reason: string): void;
  /** it was asked to stop, and waits until its shard is stored */
  leaving(reason: string): void;
}

/** As `AggregatorCommand`, but of the whole vector. */
export type AggregationCommand =
  | Exclude<AggregatorCommand, { readonly kind: "admit" | "measure" | "apply" }>
  /** `sha256` of the weights that it holds: one a shard */
  | {
      readonly kind: "admit";
      readonly worker: WorkerId;
      readonly holding: { readonly version: number; readonly sha256: readonly string[] } | null;
    }
  | { readonly kind: "apply"; readonly step: number; readonly rates: StepRates | null };

/** As `AggregatorReport`, but of the whole vector. */
export type AggregationReport = Exclude<AggregatorReport, { readonly kind: "measured" }>;

export interface AggregationOptions {
  readonly layout: ParameterLayout;
  /** one an aggregator */
  readonly shards: readonly ParameterShard[];
  readonly rule: UpdateRule;
  /** norm that the mean gradient is clipped to; null: never */
  readonly clipNorm: number | null;
}

type Captured = Extract<AggregatorReport, { readonly kind: "captured" }>;

export class Aggregators {
  private readonly report: (report: AggregationReport) => void;
  /** of the newest step of which any has a gradient: the ranks that each holds, and those that all do */
  private held: { readonly step: number; readonly by: readonly Set<number>[]; readonly byAll: number[] } = {
    step: -1,
    by: [],
    byAll: [],
  };
  /** what each has said of the update under way */
  private update: {
    readonly rates: StepRates | null;
    readonly squares: Map<number, readonly number[]>;
    readonly applied: Map<number, number>;
  } | null = null;
  private readonly captured: Captured["state"][][];

  constructor(
    private readonly options: AggregationOptions,
    private readonly members: readonly AggregatorHandle[],
    listener: Omit<AggregatorListener, "reported"> & { reported(report: AggregationReport): void },
  ) {
    this.report = (report) => {
      listener.reported(report);
    };
    this.captured = members.map(() => []);
    for (const [index, member] of members.entries()) {
      member.listen({
        reported: (report) => {
          this.reported(index, report);
        },
        failed: (error) => {
          listener.failed(error);
        },
        gone: (reason) => {
          listener.gone(reason);
        },
        leaving: (reason) => {
          listener.leaving(reason);
        },
      });
    }
  }

  command(command: AggregationCommand): void {
    switch (command.kind) {
      case "admit": {
        const { worker, holding } = command;
        for (const [index, member] of this.members.entries()) {
          const sha256 = holding?.sha256[index];
          const own = holding === null || sha256 === undefined ? null : { version: holding.version, sha256 };
          member.command({ kind: "admit", worker, holding: own });
        }
        return;
      }
      case "apply": {
        const { step, rates } = command;
        this.update = { rates, squares: new Map(), applied: new Map() };
        if (rates !== null && this.options.clipNorm !== null) this.tell({ kind: "measure", step });
        else this.apply(step, 1);
        return;
      }
      case "expect":
      case "forget":
      case "capture":
      case "release":
      case "tick":
        this.tell(command);
    }
  }

  private tell(command: AggregatorCommand): void {
    for (const member of this.members) member.command(command);
  }

  private apply(step: number, clip: number): void {
    const rates = this.update?.rates ?? null;
    this.tell({ kind: "apply", step, rates: rates === null ? null : { ...rates, clip } });
  }

  private reported(member: number, report: AggregatorReport): void {
    switch (report.kind) {
      case "held":
        this.holds(member, report.step, report.ranks);
        return;
      case "measured":
        this.measured(member, report.step, report.squares);
        return;
      case "applied": {
        const applied = this.update?.applied.set(member, report.applyMs);
        if (applied?.size !== this.members.length) return;
        this.update = null;
        this.report({ ...report, applyMs: Math.max(...applied.values()) });
        return;
      }
      case "captured":
        this.captured[member].push(report.state);
        this.reportCaptured();
        return;
      case "lost":
      case "dropped":
        this.report(report);
    }
  }

  /** Once every aggregator holds a rank's gradient, all such ranks are told: whoever could not use what was told before may now. */
  private holds(member: number, step: number, ranks: readonly number[]): void {
    if (step < this.held.step) return;
    if (step > this.held.step) this.held = { step, by: this.members.map(() => new Set()), byAll: [] };
    const { by, byAll } = this.held;
    const before = byAll.length;
    for (const rank of ranks) {
      if (by[member].has(rank)) continue;
      by[member].add(rank);
      if (by.every((own) => own.has(rank))) byAll.push(rank);
    }
    if (byAll.length > before) this.report({ kind: "held", step, ranks: [...byAll] });
  }

  private measured(member: number, step: number, squares: readonly number[]): void {
    const { clipNorm } = this.options;
    const measured = this.update?.squares.set(member, squares);
    if (measured?.size !== this.members.length || clipNorm === null) return;
    const inOrder = this.members.flatMap((_, index) => measured.get(index) ?? []);
    this.apply(step, clipFactor(inOrder, clipNorm));
  }

  private reportCaptured(): void {
    if (this.captured.some((states) => states.length === 0)) return;
    const states = this.captured.flatMap((waiting) => waiting.splice(0, 1));
    this.report({ kind: "captured", state: joined(this.options, states) });
  }
}

/** The state of which shards' states are slices; a single one's own vectors. */
function joined({ layout, shards, rule }: AggregationOptions, states: readonly TrainingState[]): TrainingState {
  const [first] = states;
  if (states.length === 1) return first;
  if (states.some(({ version }) => version !== first.version))
    throw new Error("shards of different steps were captured");
  const whole = (of: (state: TrainingState) => Float32Array) => {
    const vector = new Float32Array(layout.parameterCount);
    for (const [index, { offset }] of shards.entries()) vector.set(of(states[index]), offset);
    return vector;
  };
  const { queryBuffers, keyBuffers } = states[states.length - 1];
  return {
    version: first.version,
    updates: first.updates,
    query: whole(({ query }) => query),
    key: whole(({ key }) => key),
    optimizer: optimizerVectors(rule.kind).map((_, index) => whole(({ optimizer }) => optimizer[index])),
    queryBuffers,
    keyBuffers,
  };
}

/** One shard's slice of a state: views, nothing is copied. */
export function stateOfShard(state: TrainingState, shard: ParameterShard): TrainingState {
  const cut = (vector: Float32Array) => sliceOf(vector, shard);
  const buffers = (vector: Float32Array) => vector.subarray(0, shard.layout.bufferCount);
  return {
    version: state.version,
    updates: state.updates,
    query: cut(state.query),
    key: cut(state.key),
    optimizer: state.optimizer.map(cut),
    queryBuffers: buffers(state.queryBuffers),
    keyBuffers: buffers(state.keyBuffers),
  };
}
