/** What `tandem top` shows of a run: what a script is told too. Pure. */
import type { Snapshot } from "../../dashboard/index.js";
import type { Look } from "./source.js";

export interface TopReport extends Pick<Snapshot, "title" | "encoder" | "method" | "coordinator"> {
  readonly from: string;
  readonly lacks: string | null;
  readonly now: Snapshot["now"];
  /** of the last step; null before the first */
  readonly last: Readonly<Record<Shown, number>> | null;
  /** of steps up to then, oldest first */
  readonly recent: Readonly<Record<Shown, readonly number[]>>;
  /** time left, at the pace of late, in ms; null: not known yet */
  readonly etaMs: number | null;
  /** kNN accuracies, oldest first, in [0, 1] */
  readonly evaluations: Snapshot["evaluations"];
  /** latest last */
  readonly marks: Snapshot["marks"];
}

const SHOWN = ["loss", "imagesPerSecond", "stepMs", "learningRate", "positiveSimilarity", "negativeSimilarity"] as const; // prettier-ignore
type Shown = (typeof SHOWN)[number];

/** Points from which the pace is taken, evaluations between them included. */
const PACE_POINTS = 64;
/** A line has no more columns. */
const MOST_RECENT = 256;
const MOST_MARKS = 100;

export function reportOf({ snapshot, from, lacks }: Look): TopReport {
  const { title, encoder, method, coordinator, now, history, evaluations, marks } = snapshot;
  const recent = byName((name) => history[name].slice(-MOST_RECENT));
  return {
    ...{ title, encoder, method, coordinator, from, lacks, now, recent },
    last: recent.loss.length === 0 ? null : byName((name) => recent[name].at(-1) ?? 0),
    etaMs: timeLeft(snapshot),
    evaluations: evaluations.slice(-MOST_RECENT),
    marks: marks.slice(-MOST_MARKS),
  };
}

function timeLeft({ history, now: { step: made, totalSteps } }: Snapshot): number | null {
  const [steps, times] = [history.step.slice(-PACE_POINTS), history.time.slice(-PACE_POINTS)];
  const [from = 0, to = 0] = [steps.at(0), steps.at(-1)];
  if (totalSteps === null || to <= from) return null;
  return (1000 * ((times.at(-1) ?? 0) - (times.at(0) ?? 0)) * (totalSteps - made)) / (to - from);
}

function byName<T>(make: (name: Shown) => T): Record<Shown, T> {
  return Object.fromEntries(SHOWN.map((name) => [name, make(name)])) as Record<Shown, T>;
}
