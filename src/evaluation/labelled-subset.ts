/** Parts of a labelled data set, drawn class by class. */
import { Purpose, Stream } from "../protocol/philox.js";

/**
 * From each class the given share of its samples, rounded, at least one.
 * @param share in (0, 1]
 * @returns positions in `labels`, ascending: a pure function of its arguments
 */
export function balancedSubset(labels: Int32Array, share: number, seed: number): Int32Array {
  const byClass = new Map<number, number[]>();
  labels.forEach((label, position) => {
    const members = byClass.get(label);
    if (members === undefined) byClass.set(label, [position]);
    else members.push(position);
  });
  const chosen: number[] = [];
  for (const [label, members] of byClass) {
    const draws = new Stream(seed, { purpose: Purpose.labelledSubset, epoch: label });
    const wanted = Math.max(1, Math.round(share * members.length));
    // The first places of a Fisher–Yates shuffle.
    for (let place = 0; place < wanted; place++) {
      const other = place + draws.below(members.length - place);
      [members[place], members[other]] = [members[other], members[place]];
      chosen.push(members[place]);
    }
  }
  return Int32Array.from(chosen).sort();
}

/** All positions below `count` that are not among `chosen`. */
export function complement(chosen: Int32Array, count: number): Int32Array {
  const taken = new Set(chosen);
  return Int32Array.from({ length: count }, (_, position) => position).filter((position) => !taken.has(position));
}
