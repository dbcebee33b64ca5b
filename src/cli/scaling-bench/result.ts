/** What the command says of its measurements: one object, which is also its JSON. */
import { modalityOf } from "../../config/index.js";
import { lawsOf, rowsOf, spreadOf, type LawFit, type Row, type Spread } from "./curve.js";
import type { Machine } from "./machine.js";
import type { Measurements, MeasureOptions } from "./measure.js";
import { shapeName, shapeOf, type Kind } from "./plan.js";
import { byPart, meanTime, type Parts, type StepTime } from "./step-account.js";

/** Means over the rounds, in ms of a step. */
export interface StepCost {
  readonly meanMs: number;
  /** add up to `meanMs` */
  readonly parts: Parts;
  /** one worker's step: as it is in weak scaling, a share of N in strong */
  readonly idealMs: number;
  readonly lostMs: number;
  /** add up to `lostMs`; below 0 is won */
  readonly lost: Parts;
}

export interface ScalingRow extends Row, StepCost {
  readonly worldSize: number;
  readonly stepMs: Spread;
}

export interface Scaling {
  readonly kind: Kind;
  readonly rows: readonly ScalingRow[];
  readonly laws: readonly LawFit[];
}

export interface ScalingBenchmark {
  readonly encoder: string;
  /** what figures called imagesPerSecond count */
  readonly samples: "images" | "texts";
  readonly batch: number;
  readonly threads: number;
  readonly precision: string;
  readonly mode: string;
  readonly data: string;
  readonly rounds: number;
  readonly steps: number;
  readonly warmup: number;
  readonly machine: Machine;
  readonly scaling: readonly Scaling[];
  /** weak scaling of the other program; null: there is none */
  readonly peer: { readonly command: string; readonly rows: readonly Row[]; readonly laws: readonly LawFit[] } | null;
  /** what a reader of the figures has to know */
  readonly notes: readonly string[];
  /** the command that repeats it */
  readonly command: string;
}

type Described = Pick<ScalingBenchmark, "machine" | "notes" | "command">;

export function resultOf(
  options: MeasureOptions,
  { times, peer }: Measurements,
  described: Described,
): ScalingBenchmark {
  const { config, kinds, counts, worldSize, rounds, steps, warmup } = options;
  const { model, parallel, engine, data } = config;
  const scaling = kinds.map((kind): Scaling => {
    const shapes = counts.map((workers) => shapeOf(kind, workers, worldSize));
    const byCount = shapes.map((shape) => times.get(shapeName(shape)) ?? []);
    const speeds = Array.from({ length: rounds }, (_, round) =>
      shapes.map((shape, index) => (1000 * shape.worldSize * parallel.batchSize) / byCount[index][round].stepMs),
    );
    const means = byCount.map(meanTime);
    const rows = rowsOf(counts, speeds).map((row, index) => ({
      ...row,
      worldSize: shapes[index].worldSize,
      stepMs: spreadOf(byCount[index].map(({ stepMs }) => stepMs)),
      ...costOf(means[index], means[0], kind === "weak" ? 1 : row.workers),
    }));
    return { kind, rows, laws: lawsOf(counts, speeds) };
  });
  return {
    samples: modalityOf(config) === "text" ? "texts" : "images",
    ...{ encoder: model.encoder, batch: parallel.batchSize, threads: parallel.threads },
    ...{ precision: engine.precision, mode: engine.mode, data: data.spec },
    ...{ rounds, steps, warmup, machine: described.machine, scaling },
    peer:
      options.peer === null || peer === null
        ? null
        : { command: options.peer, rows: rowsOf(counts, peer), laws: lawsOf(counts, peer) },
    ...{ notes: described.notes, command: described.command },
  };
}

/** @param alone one worker's step @param share how many share it */
export function costOf(time: StepTime, alone: StepTime, share: number): StepCost {
  const idealMs = alone.stepMs / share;
  return {
    meanMs: time.stepMs,
    parts: time.parts,
    idealMs,
    lostMs: time.stepMs - idealMs,
    lost: byPart((part) => time.parts[part] - alone.parts[part] / share),
  };
}
