/** What whoever looks at a run is told of it. */
import { hostname } from "node:os";
import type { PictureNote } from "../telemetry/index.js";
import type { Column } from "./history.js";
import type { Evaluated, Mark, Now, RunView } from "./run-view.js";

/** What does not change while a run goes on. */
export interface Described {
  /** what it is called by: the name of the run directory */
  readonly title: string;
  readonly encoder: string;
  readonly method: string;
}

/** What changes from second to second; by the counts somebody sees whether they have all of the rest. */
export interface Changing {
  readonly now: Now;
  readonly counts: {
    readonly points: number;
    readonly revision: number;
    readonly evaluations: number;
    readonly marks: number;
    readonly pictures: number;
  };
  /** steps that a point stands for */
  readonly stride: number;
}

export interface Snapshot extends Described, Changing {
  /** the process that tells it */
  readonly coordinator: { readonly host: string; readonly pid: number };
  /** index of the first point */
  readonly from: number;
  readonly history: Readonly<Record<Column, readonly number[]>>;
  readonly evaluations: readonly Evaluated[];
  readonly marks: readonly Mark[];
  readonly pictures: readonly PictureNote[];
}

export function changingOf({ current, history, evaluations, marks, marksForgotten, picturesMade }: RunView): Changing {
  const { points, revision, stride } = history;
  const marked = marks.length + marksForgotten;
  const counts = { points, revision, evaluations: evaluations.length, marks: marked, pictures: picturesMade };
  return { now: current, counts, stride };
}

/** @param has points that somebody has already, and of which revision: only those that come after are wanted */
export function snapshotOf(
  view: RunView,
  described: Described,
  has: Partial<Pick<Changing["counts"], "points" | "revision">> = {},
): Snapshot {
  const { history, evaluations, marks } = view;
  const from = has.revision === history.revision ? Math.max(0, has.points || 0) : 0;
  const coordinator = { host: hostname(), pid: process.pid };
  const shown = { from, history: history.since(from), evaluations, marks, pictures: [...view.pictures.values()] };
  return { ...described, ...changingOf(view), coordinator, ...shown };
}
