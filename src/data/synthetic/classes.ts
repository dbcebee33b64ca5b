/**
 * The classes of the synthetic set. A class is a shape, how its parts are arranged, and how they are filled: what random crops,
 * flips and colour jitter keep. Each value of each of the three is shared by several classes, so none of them alone tells the class.
 */
import type { Shape } from "./shapes.js";

export type Arrangement = "grid" | "brick" | "rows" | "unequal";
export type Texture = "solid" | "striped" | "checked" | "hollow";

export interface SyntheticClass {
  readonly shape: Shape;
  readonly arrangement: Arrangement;
  readonly texture: Texture;
}

/** By label; a set of N classes uses the first N. Their order is part of the data's meaning. */
const CLASSES: readonly SyntheticClass[] = [
  { shape: "disc", arrangement: "grid", texture: "striped" },
  { shape: "square", arrangement: "rows", texture: "hollow" },
  { shape: "triangle", arrangement: "brick", texture: "solid" },
  { shape: "star", arrangement: "grid", texture: "hollow" },
  { shape: "cross", arrangement: "unequal", texture: "solid" },
  { shape: "disc", arrangement: "unequal", texture: "hollow" },
  { shape: "square", arrangement: "grid", texture: "checked" },
  { shape: "triangle", arrangement: "rows", texture: "striped" },
  { shape: "star", arrangement: "brick", texture: "solid" },
  { shape: "cross", arrangement: "rows", texture: "checked" },
  { shape: "disc", arrangement: "brick", texture: "checked" },
  { shape: "square", arrangement: "unequal", texture: "solid" },
  { shape: "triangle", arrangement: "grid", texture: "hollow" },
  { shape: "star", arrangement: "unequal", texture: "hollow" },
  { shape: "cross", arrangement: "grid", texture: "striped" },
  { shape: "disc", arrangement: "rows", texture: "solid" },
  { shape: "square", arrangement: "brick", texture: "striped" },
  { shape: "triangle", arrangement: "unequal", texture: "solid" },
  { shape: "star", arrangement: "rows", texture: "striped" },
  { shape: "cross", arrangement: "brick", texture: "hollow" },
];

export const MOST_CLASSES = CLASSES.length;

export function syntheticClass(label: number): SyntheticClass {
  return CLASSES[label];
}

/** e.g. `disc-grid-striped` */
export function className({ shape, arrangement, texture }: SyntheticClass): string {
  return `${shape}-${arrangement}-${texture}`;
}

/**
 * Where the motifs of an arrangement stand. Rows follow each other at `rowPitch`; within a row motifs stand `pitch` apart, every second
 * row shifted by `shift`. Lengths in the motif spacing of the picture.
 */
export interface Lattice {
  readonly pitch: number;
  readonly rowPitch: number;
  readonly shift: number;
  /** circumradius of the motifs, and of every second one in row and column */
  readonly radius: number;
  readonly otherRadius: number;
}

export const LATTICE: Readonly<Record<Arrangement, Lattice>> = {
  grid: { pitch: 1, rowPitch: 1, shift: 0, radius: 0.46, otherRadius: 0.46 },
  brick: { pitch: 1, rowPitch: 1, shift: 0.5, radius: 0.46, otherRadius: 0.46 },
  rows: { pitch: 0.84, rowPitch: 1.36, shift: 0, radius: 0.42, otherRadius: 0.42 },
  unequal: { pitch: 1, rowPitch: 1, shift: 0, radius: 0.52, otherRadius: 0.28 },
};
