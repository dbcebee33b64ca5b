/** Results of a graph that go where they are wanted while it still runs: the operation of `hand-over.cc`. */
import { loadAddon } from "./addon.js";

/** hand-over.cc */
interface Addon {
  openTable(lengths: readonly number[]): number;
  aim(table: number, first: number, end: number, vector: Float32Array): void;
  landed(table: number): number;
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

  /** The run is over. @returns the first place whose values are not all finite; null: all are */
  landed(): number | null {
    const faulty = handOverAddon().landed(this.number);
    return faulty < 0 ? null : faulty;
  }
}
