/** What rounds say of one side's speed with several numbers of workers: medians, spreads, laws, and what those foretell. */
import { median } from "../median.js";
import { bootstrap, type Estimate } from "./bootstrap.js";
import { amdahl, COUNTS_FOR_UNIVERSAL, peakOf, speedUpBy, universal, type Law } from "./laws.js";

/** Of several rounds. */
export interface Spread {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

export interface Row {
  readonly workers: number;
  readonly imagesPerSecond: Spread;
  /** over one worker in the same round */
  readonly speedUp: Spread;
  /** speed-up over N */
  readonly efficiency: Spread;
}

export interface LawFit {
  readonly law: "Amdahl" | "USL";
  /** σ */
  readonly serial: Estimate;
  /** κ; null: the law has none */
  readonly crosstalk: Estimate | null;
  /** the N beyond which more workers are slower; null: there is none */
  readonly peakWorkers: number | null;
  /** extrapolated: numbers of workers that nobody has measured */
  readonly predictions: readonly Prediction[];
}

export interface Prediction {
  readonly workers: number;
  readonly speedUp: Estimate;
  readonly imagesPerSecond: Estimate;
}

/** images/s of each number of workers, in their order */
export type Round = readonly number[];

/** Predictions are for so many times the most workers measured. */
const BEYOND = [2, 4, 8];

/** @param counts ascending, 1 first @param rounds at least one */
export function rowsOf(counts: readonly number[], rounds: readonly Round[]): Row[] {
  return counts.map((workers, index) => {
    const speedUps = rounds.map((round) => round[index] / round[0]);
    return {
      workers,
      imagesPerSecond: spreadOf(rounds.map((round) => round[index])),
      speedUp: spreadOf(speedUps),
      efficiency: spreadOf(speedUps.map((speedUp) => speedUp / workers)),
    };
  });
}

/** Of each law that so many numbers of workers determine. */
export function lawsOf(counts: readonly number[], rounds: readonly Round[]): LawFit[] {
  if (counts.length < 2) return [];
  const most = counts[counts.length - 1];
  const beyond = BEYOND.map((times) => times * most);
  const fits = (fit: typeof universal) => (some: readonly Round[]) => {
    const law = fit(
      counts.map((workers, index) => ({ workers, speedUp: median(some.map((round) => round[index] / round[0])) })),
    );
    const speedUps = beyond.map((workers) => speedUpBy(law, workers));
    const one = median(some.map(([alone]) => alone));
    return [law.serial, law.crosstalk, ...speedUps, ...speedUps.map((speedUp) => speedUp * one)];
  };
  const fitted = (name: LawFit["law"], fit: (points: Parameters<typeof universal>[0]) => Law): LawFit => {
    const [serial, crosstalk, ...foretold] = bootstrap(rounds, fits(fit));
    return {
      law: name,
      serial,
      crosstalk: name === "USL" ? crosstalk : null,
      peakWorkers: peakOf({ serial: serial.value, crosstalk: crosstalk.value }),
      predictions: beyond.map((workers, index) => ({
        workers,
        speedUp: foretold[index],
        imagesPerSecond: foretold[beyond.length + index],
      })),
    };
  };
  const first = fitted("Amdahl", amdahl);
  return counts.length < COUNTS_FOR_UNIVERSAL ? [first] : [first, fitted("USL", universal)];
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), lowest: Math.min(...values), highest: Math.max(...values) };
}
