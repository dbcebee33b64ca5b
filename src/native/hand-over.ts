/** Results of a graph that go where they are wanted while it still runs: the operation of `hand-over.cc`. */
import { loadAddon } from "./addon.js";

/** hand-over.cc */
interface Addon {
  openTable(lengths: readonly number[]): number;
  aim(table: number, first: number, end: number, vector: Float32Array): void;
  await(table: number, first: number, end: number, run: number, stretch: number): void;
  landed(table: number): number;
  listen(whole: (run: number, stretch: number) => void): void;
}

let loaded: Addon | null = null;

/** Makes the operation known to TensorFlow, which must be before a graph with it is loaded. */
export function handOverAddon(): Addon {
  loaded ??= loadAddon<Addon>("hand-over");
  return loaded;
}

/** Where the results of one graph go. */
export class HandOver {
  /** what the graph is given for its table */
  readonly number: number;

  /** @param lengths in values, by place */
  constructor(readonly lengths: readonly number[]) {
    this.number = handOverAddon().openTable(lengths);
  }

  /**
   * What the next run hands over to the places `[first, end)` goes into the vector, one behind the other.
   * @throws Error where they do not fit
   */
  aim(first: number, end: number, vector: Float32Array): void {
    handOverAddon().aim(this.number, first, end, vector);
  }

  /** Whoever listens hears, with these numbers, when something has come to all of the places `[first, end)`. After `aim`. */
  await(first: number, end: number, run: number, stretch: number): void {
    handOverAddon().await(this.number, first, end, run, stretch);
  }

  /** The run is over. @returns the first place whose values are not all finite; null: all are */
  landed(): number | null {
    const faulty = handOverAddon().landed(this.number);
    return faulty < 0 ? null : faulty;
  }
}

/** Who hears of what has been awaited: one of a process, on one thread, since a graph runs on another. */
let hear: ((run: number, stretch: number) => void) | null = null;

/** @param whole hears of each stretch that is whole, from whatever thread it was awaited */
export function onHandedOver(whole: (run: number, stretch: number) => void): void {
  if (hear === null)
    handOverAddon().listen((run, stretch) => {
      hear?.(run, stretch);
    });
  hear = whole;
}
