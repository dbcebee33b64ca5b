/** Draws one picture of the synthetic set: a scene and a class become pixels, antialiased. */
import { LATTICE, type Lattice, type SyntheticClass, type Texture } from "./classes.js";
import { type Bar, DIFFICULTY, type Motif, MOTIF_PERIOD, type Scene } from "./scene.js";
import { DISTANCE, type DistanceFunction } from "./shapes.js";

/** Width of the rim of a hollow motif and wavelengths of the fillings, in the motif's radius. */
const RIM = 0.34;
const STRIPE_WAVELENGTH = 0.8;
const CHECK_WAVELENGTH = 1.1;
/** How much of the motif's colour the faint half of a filling keeps. */
const FAINT_HALF = 0.1;

/** Standard deviation times this is the width of a uniform distribution. */
const UNIFORM_WIDTH = Math.sqrt(12);

/** Step of the grain's counter: 2³² over the golden ratio, odd, so that neighbours differ in many bits. */
const GRAIN_STEP = 0x9e3779b9;

/**
 * @param size side S in pixels
 * @param target receives `[S, S, 3]` uint8 RGB at `offset`
 */
export function renderPicture(
  scene: Scene,
  kind: SyntheticClass,
  size: number,
  target: Uint8Array,
  offset: number,
): void {
  const pixel = [0, 0, 0];
  const grainWidth = DIFFICULTY.noise * UNIFORM_WIDTH;
  let counter = scene.noiseSeed;
  let position = offset;
  for (let row = 0; row < size; row++) {
    const y = (row + 0.5) / size;
    for (let column = 0; column < size; column++) {
      const x = (column + 0.5) / size;
      paintBackground(pixel, scene, x, y, size);
      paintMotif(pixel, scene, kind, x, y, size);
      counter = (counter + GRAIN_STEP) >>> 0;
      const grain = (scramble(counter) / 2 ** 32 - 0.5) * grainWidth;
      for (let channel = 0; channel < 3; channel++) target[position++] = toByte(pixel[channel] + grain);
    }
  }
}

/** Sets `pixel`, RGB of white, to what is behind the motifs at a point of the picture. */
function paintBackground(pixel: number[], scene: Scene, x: number, y: number, size: number): void {
  for (let channel = 0; channel < 3; channel++) pixel[channel] = scene.background[channel];
  for (const { alongX, alongY, phase, colour } of scene.waves)
    add(pixel, colour, Math.cos(alongX * x + alongY * y + phase));
  for (const bar of scene.bars) {
    const cover = barCover(bar, x, y, size);
    if (cover > 0) add(pixel, bar.colour, cover);
  }
}

function barCover(bar: Bar, x: number, y: number, size: number): number {
  const dx = x - bar.x;
  const dy = y - bar.y;
  const along = Math.max(Math.abs(bar.cos * dx + bar.sin * dy) - bar.halfLength, 0);
  const across = bar.cos * dy - bar.sin * dx;
  const distance = Math.sqrt(along * along + across * across) - bar.halfWidth;
  return clamp(0.5 - distance * size);
}

/** Adds the motif in whose cell the point of the picture lies. */
function paintMotif(pixel: number[], scene: Scene, kind: SyntheticClass, x: number, y: number, size: number): void {
  const lattice = LATTICE[kind.arrangement];
  const dx = (x - scene.x) / scene.spacing;
  const dy = (y - scene.y) / scene.spacing;
  const u = scene.cos * dx + scene.sin * dy;
  const v = scene.cos * dy - scene.sin * dx;
  const row = Math.round(v / lattice.rowPitch);
  const shift = row % 2 === 0 ? 0 : lattice.shift;
  const column = Math.round(u / lattice.pitch - shift);
  const motif = scene.motifs[wrap(row) * MOTIF_PERIOD + wrap(column)];
  const radius = radiusOf(lattice, row, column);
  const fromX = (u - (column + shift) * lattice.pitch) / radius;
  const fromY = (v - row * lattice.rowPitch) / radius;
  const share = inkOf(motif, kind.texture, DISTANCE[kind.shape], fromX, fromY, scene.spacing * size * radius);
  if (share > 0) add(pixel, motif.colour, share);
}

function radiusOf(lattice: Lattice, row: number, column: number): number {
  return (row + column) % 2 === 0 ? lattice.radius : lattice.otherRadius;
}

function wrap(cell: number): number {
  return ((cell % MOTIF_PERIOD) + MOTIF_PERIOD) % MOTIF_PERIOD;
}

/** How much of the motif's colour there is at a point of its cell, in [0, 1]; `x` and `y` in its radius. */
function inkOf(
  motif: Motif,
  texture: Texture,
  distance: DistanceFunction,
  x: number,
  y: number,
  pixelsPerRadius: number,
): number {
  const u = motif.cos * x + motif.sin * y;
  const v = motif.cos * y - motif.sin * x;
  const inside = distance(u, v);
  const border = texture === "hollow" ? Math.abs(inside + RIM / 2) - RIM / 2 : inside;
  const cover = clamp(0.5 - border * pixelsPerRadius);
  return cover === 0 ? 0 : cover * (FAINT_HALF + (1 - FAINT_HALF) * filling(texture, u, v, pixelsPerRadius));
}

/** 1 on the full half of a filling, 0 on the faint one, with a ramp a pixel wide between. */
function filling(texture: Texture, u: number, v: number, pixelsPerRadius: number): number {
  switch (texture) {
    case "solid":
    case "hollow":
      return 1;
    case "striped":
      return clamp(0.5 + squareWave(v, STRIPE_WAVELENGTH) * pixelsPerRadius);
    case "checked": {
      const across = squareWave(u, CHECK_WAVELENGTH);
      const down = squareWave(v, CHECK_WAVELENGTH);
      return clamp(0.5 + Math.min(Math.abs(across), Math.abs(down)) * Math.sign(across * down) * pixelsPerRadius);
    }
  }
}

/** Signed distance to the nearest change of a square wave, positive on its full half, whose middle is at 0. */
function squareWave(position: number, wavelength: number): number {
  const phase = position / wavelength - Math.round(position / wavelength);
  return (0.25 - Math.abs(phase)) * wavelength;
}

/** The 32-bit finalizer of MurmurHash3 (Appleby), unsigned: grain for the eye, not a source of draws. */
function scramble(word: number): number {
  let mixed = word ^ (word >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function add(pixel: number[], colour: readonly number[], share: number): void {
  for (let channel = 0; channel < 3; channel++) pixel[channel] += share * colour[channel];
}

function clamp(value: number): number {
  return Math.min(Math.max(value, 0), 1);
}

function toByte(value: number): number {
  return Math.round(clamp(value) * 255);
}
