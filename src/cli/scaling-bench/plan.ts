/** What is measured, and in which order. */

/**
 * weak: every worker brings a rank, so W = N and the global batch grows with it. strong: the same W ranks, and so the same step bit for bit,
 * are shared by N workers.
 */
export const KINDS = ["weak", "strong"] as const;
export type Kind = (typeof KINDS)[number];

export interface Shape {
  readonly worldSize: number;
  readonly workers: number;
}

/** @param worldSize W of strong scaling */
export function shapeOf(kind: Kind, workers: number, worldSize: number): Shape {
  return { workers, worldSize: kind === "weak" ? workers : worldSize };
}

/** Shapes of all kinds, each once: the one with W workers for W ranks is of both. */
export function shapesOf(kinds: readonly Kind[], counts: readonly number[], worldSize: number): Shape[] {
  const all = kinds.flatMap((kind) => counts.map((workers) => shapeOf(kind, workers, worldSize)));
  return [...new Map(all.map((shape) => [shapeName(shape), shape])).values()];
}

export function shapeName({ worldSize, workers }: Shape): string {
  return `W=${worldSize} N=${workers}`;
}

/** Every other round goes backwards, so that a machine that becomes slower, or faster, does so for all alike. */
export function ordered<T>(cases: readonly T[], round: number): T[] {
  return round % 2 === 0 ? [...cases] : [...cases].reverse();
}
