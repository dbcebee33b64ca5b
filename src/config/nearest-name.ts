/** "Did you mean": the valid name closest to a mistyped one. */

/** The name with the smallest edit distance (Levenshtein 1966), the first of equals. @throws RangeError where `names` is empty */
export function nearestName(typed: string, names: readonly string[]): string {
  if (names.length === 0) throw new RangeError("no names to choose from");
  return names.reduce((best, name) => (editDistance(typed, name) < editDistance(typed, best) ? name : best));
}

/** Levenshtein distance. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replace = previous[column - 1] + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(replace, previous[column] + 1, current[column - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
