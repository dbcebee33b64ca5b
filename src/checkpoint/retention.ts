/** Which checkpoints go when a new one has come. */

export interface StoredCheckpoint {
  readonly step: number;
  /** kNN accuracy as measured last before it; null: unknown */
  readonly knn: number | null;
}

/**
 * @param stored ascending by step
 * @param keep how many of the newest stay, at least 1
 * @returns steps to remove: all but the newest `keep` and the best by kNN accuracy (of equals the oldest, since an accuracy
 *   is handed on from the evaluation to the checkpoints after it)
 */
export function prunable(stored: readonly StoredCheckpoint[], keep: number): number[] {
  const best = stored.reduce<StoredCheckpoint | null>(
    (winner, next) => (next.knn !== null && next.knn > (winner?.knn ?? -1) ? next : winner),
    null,
  );
  const old = stored.slice(0, -Math.max(1, keep));
  return old.filter(({ step }) => step !== best?.step).map(({ step }) => step);
}
