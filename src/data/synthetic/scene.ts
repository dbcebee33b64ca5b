/**
 * Everything about one synthetic picture but its class, and so what classes share: place, scale and turn of the pattern, colours, light,
 * clutter, grain. Most of it varies within the picture too, so that two crops of one picture have little in common but the class.
 */
import type { Stream } from "../../protocol/philox.js";

/** How hard the set is. Lengths are shares of the picture's side, brightnesses of white, angles degrees. */
export const DIFFICULTY = {
  /** distance between motifs */
  leastSpacing: 0.28,
  greatestSpacing: 0.46,
  /** the pattern is turned by at most this, either way, and each motif by so much more */
  patternTurn: 10,
  motifTurn: 8,
  /** difference in brightness between a motif and what is behind it; each motif is the brighter or the darker by chance */
  leastContrast: 0.35,
  greatestContrast: 0.55,
  /** share of the motifs' contrast that their order of brighter and darker follows by chance: 0.5 is even */
  brighterShare: 0.5,
  /** mean brightness of the background */
  leastBackground: 0.35,
  greatestBackground: 0.65,
  /** greatest strength of the colour of the background, of a wave and of a motif */
  chroma: 0.12,
  /** waves of light and colour across the background: how many, their brightness at most, and their lengths */
  waves: 2,
  waveBrightness: 0.1,
  leastWavelength: 0.5,
  greatestWavelength: 1.5,
  /** bars behind the motifs: at most so many, of at most this brightness against the background */
  clutter: 3,
  clutterBrightness: 0.12,
  /** standard deviation of each pixel's grain */
  noise: 0.025,
} as const;

export type Rgb = readonly [number, number, number];

export interface Wave {
  /** of the phase, in radians a side */
  readonly alongX: number;
  readonly alongY: number;
  readonly phase: number;
  readonly colour: Rgb;
}

export interface Bar {
  readonly x: number;
  readonly y: number;
  /** direction of the bar's length, as cosine and sine */
  readonly cos: number;
  readonly sin: number;
  readonly halfLength: number;
  readonly halfWidth: number;
  readonly colour: Rgb;
}

export interface Motif {
  /** its own turn, as cosine and sine */
  readonly cos: number;
  readonly sin: number;
  readonly colour: Rgb;
}

/** Motifs repeat after so many rows and columns, farther than a picture shows. */
export const MOTIF_PERIOD = 8;

/** Positions and lengths are shares of the side. Colours are of white, all but `background` added to what is behind. */
export interface Scene {
  /** where the motif in row 0, column 0 stands */
  readonly x: number;
  readonly y: number;
  readonly spacing: number;
  /** turn of the pattern, as cosine and sine */
  readonly cos: number;
  readonly sin: number;
  readonly background: Rgb;
  readonly waves: readonly Wave[];
  readonly bars: readonly Bar[];
  /** `[MOTIF_PERIOD, MOTIF_PERIOD]`, row by row */
  readonly motifs: readonly Motif[];
  /** seeds the grain */
  readonly noiseSeed: number;
}

export function drawScene(stream: Stream): Scene {
  const spacing = stream.uniform(DIFFICULTY.leastSpacing, DIFFICULTY.greatestSpacing);
  const x = stream.uniform();
  const y = stream.uniform();
  const turn = drawTurn(stream, DIFFICULTY.patternTurn);
  const luma = stream.uniform(DIFFICULTY.leastBackground, DIFFICULTY.greatestBackground);
  return {
    x,
    y,
    spacing,
    ...turn,
    background: drawColour(stream, luma),
    waves: Array.from({ length: DIFFICULTY.waves }, () => drawWave(stream)),
    bars: Array.from({ length: stream.below(DIFFICULTY.clutter + 1) }, () => drawBar(stream)),
    motifs: Array.from({ length: MOTIF_PERIOD * MOTIF_PERIOD }, () => drawMotif(stream)),
    noiseSeed: stream.uint32(),
  };
}

function drawTurn(stream: Stream, most: number): { cos: number; sin: number } {
  const radians = (stream.uniform(-most, most) * Math.PI) / 180;
  return { cos: Math.cos(radians), sin: Math.sin(radians) };
}

function drawWave(stream: Stream): Wave {
  const direction = stream.uniform(0, 2 * Math.PI);
  const frequency = (2 * Math.PI) / stream.uniform(DIFFICULTY.leastWavelength, DIFFICULTY.greatestWavelength);
  return {
    alongX: frequency * Math.cos(direction),
    alongY: frequency * Math.sin(direction),
    phase: stream.uniform(0, 2 * Math.PI),
    colour: drawColour(stream, stream.uniform(0, DIFFICULTY.waveBrightness)),
  };
}

function drawBar(stream: Stream): Bar {
  return {
    x: stream.uniform(),
    y: stream.uniform(),
    ...drawTurn(stream, 90),
    halfLength: stream.uniform(0.03, 0.25),
    halfWidth: stream.uniform(0.015, 0.04),
    colour: drawColour(stream, stream.uniform(-1, 1) * DIFFICULTY.clutterBrightness),
  };
}

function drawMotif(stream: Stream): Motif {
  const contrast = stream.uniform(DIFFICULTY.leastContrast, DIFFICULTY.greatestContrast);
  const luma = stream.chance(DIFFICULTY.brighterShare) ? contrast : -contrast;
  return { ...drawTurn(stream, DIFFICULTY.motifTurn), colour: drawColour(stream, luma) };
}

/** A colour of given brightness (luma) and random hue; the hue adds no luma, so it leaves no trace in a gray picture. */
function drawColour(stream: Stream, luma: number): Rgb {
  const hue = stream.uniform(0, 2 * Math.PI);
  const chroma = stream.uniform(0, DIFFICULTY.chroma);
  const i = chroma * Math.cos(hue);
  const q = chroma * Math.sin(hue);
  return [luma + 0.956 * i + 0.619 * q, luma - 0.272 * i - 0.647 * q, luma - 1.106 * i + 1.703 * q];
}
