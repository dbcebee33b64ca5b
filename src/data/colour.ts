/**
 * Colour jitter and grayscale as one affine map. Each stage is linear in the pixel, contrast in the image's mean as well, so their
 * product is `rgb' = rgb·A + mean(rgb)·v`, the second term alike for all channels. Row vectors throughout.
 */

export interface ColourJitter {
  /** factor of every channel */
  readonly brightness: number;
  /** 1 leaves the image, 0 turns it into its mean gray */
  readonly contrast: number;
  /** 1 leaves the pixel, 0 turns it into its own gray */
  readonly saturation: number;
  /** rotation of the hue in turns */
  readonly hue: number;
}

export const NO_JITTER: ColourJitter = { brightness: 1, contrast: 1, saturation: 1, hue: 0 };

export interface ColourTransform {
  /** `A`, `[3, 3]` row by row */
  readonly matrix: readonly number[];
  /** `v`, `[3]` */
  readonly meanWeights: readonly number[];
}

/** Share of red, green and blue in a gray, ITU-R BT.601, as torchvision. */
export const LUMA = [0.299, 0.587, 0.114] as const;
/** The I and Q axes of NTSC's YIQ; their weights sum to 0, so a gray has none of either. */
const IN_PHASE = [0.5959, -0.2746, -0.3213] as const;
const QUADRATURE = [0.2115, -0.5227, 0.3112] as const;

const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
const TO_YIQ = LUMA.flatMap((luma, channel) => [luma, IN_PHASE[channel], QUADRATURE[channel]]);
const FROM_YIQ = inverse(TO_YIQ);

/** In torchvision's order: brightness, contrast, saturation, hue, then grayscale. */
export function colourTransform(jitter: ColourJitter, grayscale: boolean): ColourTransform {
  const { brightness, contrast, saturation, hue } = jitter;
  let matrix = IDENTITY.map((value) => value * brightness * contrast);
  if (saturation !== 1) matrix = product(matrix, desaturation(saturation));
  if (hue !== 0) matrix = product(matrix, hueRotation(hue));
  if (grayscale) matrix = product(matrix, desaturation(0));
  // What follows contrast maps each gray to itself, so its mean gray passes through unchanged.
  const meanWeights = LUMA.map((luma) => (1 - contrast) * brightness * luma);
  return { matrix, meanWeights };
}

/** `share·rgb + (1 − share)·gray(rgb)`. */
function desaturation(share: number): number[] {
  return IDENTITY.map((value, entry) => value * share + (1 - share) * LUMA[Math.floor(entry / 3)]);
}

/** Rotation by `turns` in the plane of I and Q; brightness (Y) stays. */
function hueRotation(turns: number): number[] {
  const cos = Math.cos(2 * Math.PI * turns);
  const sin = Math.sin(2 * Math.PI * turns);
  return product(product(TO_YIQ, [1, 0, 0, 0, cos, sin, 0, -sin, cos]), FROM_YIQ);
}

/** `a·b` of 3×3 matrices, row by row. */
function product(a: readonly number[], b: readonly number[]): number[] {
  return IDENTITY.map((_, entry) => {
    const row = 3 * Math.floor(entry / 3);
    const column = entry % 3;
    return a[row] * b[column] + a[row + 1] * b[3 + column] + a[row + 2] * b[6 + column];
  });
}

/** Of a 3×3 matrix, by its adjugate. */
function inverse(m: readonly number[]): number[] {
  const adjugate = [
    m[4] * m[8] - m[5] * m[7],
    m[2] * m[7] - m[1] * m[8],
    m[1] * m[5] - m[2] * m[4],
    m[5] * m[6] - m[3] * m[8],
    m[0] * m[8] - m[2] * m[6],
    m[2] * m[3] - m[0] * m[5],
    m[3] * m[7] - m[4] * m[6],
    m[1] * m[6] - m[0] * m[7],
    m[0] * m[4] - m[1] * m[3],
  ];
  const determinant = m[0] * adjugate[0] + m[1] * adjugate[3] + m[2] * adjugate[6];
  return adjugate.map((value) => value / determinant);
}
