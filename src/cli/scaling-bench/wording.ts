/** The same words and digits for the terminal and for the report. */
import { shown } from "../report/line-chart.js";
import type { Estimate } from "./bootstrap.js";
import type { LawFit, Row, Spread } from "./curve.js";
import type { Scaling, ScalingBenchmark, ScalingRow } from "./result.js";
import { PARTS } from "./step-account.js";

/** A head and rows. */
export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function titleOf({ encoder, batch, threads, mode, precision, data }: ScalingBenchmark): string {
  const many = threads === 1 ? "1 thread" : `${threads} threads`;
  return `Scaling of ${encoder}, ${batch} samples a rank, ${many} a worker, ${mode}, ${precision}, on ${data}`;
}

export function headingOf({ kind, rows }: Scaling): string {
  return kind === "weak"
    ? "Weak scaling: N workers for W = N ranks"
    : `Strong scaling: N workers for W = ${rows[0].worldSize} ranks`;
}

export function speedTable({ rows }: Scaling, samples: string): Table {
  return {
    head: ["workers", `${samples}/s`, "step ms", "speed-up", "efficiency"],
    rows: rows.map((row) => [...cells(row).slice(0, 2), spread(row.stepMs, shown), ...cells(row).slice(2)]),
  };
}

/** Of the rows that have lost something to one worker. */
export function lostTable({ rows }: Scaling): Table {
  return {
    head: ["workers", "lost ms", ...PARTS],
    rows: others(rows).map(({ workers, lostMs, lost }) => [
      String(workers),
      shown(lostMs),
      ...PARTS.map((part) => shown(lost[part])),
    ]),
  };
}

/** Weak scaling of both, row by row. */
export function peerTable({ scaling, peer, samples }: ScalingBenchmark): Table | null {
  const weak = scaling.find(({ kind }) => kind === "weak");
  if (peer === null || weak === undefined) return null;
  const named = (name: string, rows: readonly Row[]) => rows.map((row) => [name, ...cells(row)]);
  return {
    head: ["program", "workers", `${samples}/s`, "speed-up", "efficiency"],
    rows: [...named("Tandem", weak.rows), ...named("peer", peer.rows)],
  };
}

export function lawTable(laws: readonly LawFit[]): Table {
  return {
    head: ["law", "σ (serial)", "κ (crosstalk)", "fastest N"],
    rows: laws.map(({ law, serial, crosstalk, peakWorkers }) => [
      law,
      percent(serial),
      crosstalk === null ? "–" : percent(crosstalk),
      peakWorkers === null ? "–" : shown(peakWorkers),
    ]),
  };
}

/** More than ideal by more than this is nothing to extrapolate from. */
const GAIN = 1.05;

const gainsOf = ({ rows }: Scaling) => rows.filter(({ efficiency }) => efficiency.median > GAIN);

/** What a reader of the laws has to know. */
export function lawNotes(scaling: Scaling): string[] {
  const gains = gainsOf(scaling).map(({ workers }) => workers);
  if (gains.length === 0) return [];
  return [
    `More than ideal with ${gains.join(", ")} workers: no law describes a gain, so nothing is extrapolated; more --rounds show whether it is noise.`,
  ];
}

/** By law and number of workers; null: there is nothing to extrapolate from. */
export function predictionTable(scaling: Scaling, samples: string): Table | null {
  if (gainsOf(scaling).length > 0) return null;
  return {
    head: ["law", "workers", "speed-up", `${samples}/s`],
    rows: scaling.laws.flatMap(({ law, predictions }) =>
      predictions.map(({ workers, speedUp, imagesPerSecond }) => [
        law,
        String(workers),
        estimate(speedUp, shown),
        estimate(imagesPerSecond, shown),
      ]),
    ),
  };
}

export function others<T extends Pick<ScalingRow, "workers">>(rows: readonly T[]): T[] {
  return rows.filter(({ workers }) => workers > 1);
}

function cells({ workers, imagesPerSecond, speedUp, efficiency }: Row): string[] {
  return [
    String(workers),
    spread(imagesPerSecond, shown),
    spread(speedUp, (value) => value.toFixed(2)),
    spread(efficiency, (value) => `${(100 * value).toFixed(1)}%`),
  ];
}

function spread({ median, lowest, highest }: Spread, digits: (value: number) => string): string {
  return lowest === highest ? digits(median) : `${digits(median)} (${digits(lowest)}–${digits(highest)})`;
}

function percent(of: Estimate): string {
  return estimate(of, (value) => `${shown(100 * value)}%`);
}

function estimate({ value, low, high }: Estimate, digits: (value: number) => string): string {
  return low === null || high === null ? digits(value) : `${digits(value)} [${digits(low)}, ${digits(high)}]`;
}
