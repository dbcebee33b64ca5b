/** Laws of speed-up with N workers, fitted to what was measured. */

export interface SpeedUp {
  readonly workers: number;
  /** over one worker */
  readonly speedUp: number;
}

/**
 * S(N) = N / (1 + σ (N − 1) + κ N (N − 1)): Gunther's Universal Scalability Law ("A simple capacity model of massively parallel transaction
 * systems", CMG 1993; "Guerrilla Capacity Planning", 2007, chapter 4). With κ = 0 it is Amdahl's law ("Validity of the single processor
 * approach to achieving large scale computing capabilities", AFIPS 1967) with the serial share σ.
 */
export interface Law {
  /** σ: share of the work that no worker takes from another (Gunther: contention), from 0 on */
  readonly serial: number;
  /** κ: what every pair of workers costs (Gunther: coherency), from 0 on */
  readonly crosstalk: number;
}

/** Numbers of workers, one among them, without which two coefficients are not determined. */
export const COUNTS_FOR_UNIVERSAL = 3;

export function speedUpBy({ serial, crosstalk }: Law, workers: number): number {
  return workers / (1 + serial * (workers - 1) + crosstalk * workers * (workers - 1));
}

/** @returns the N beyond which more workers are slower; null: there is none */
export function peakOf({ serial, crosstalk }: Law): number | null {
  return crosstalk === 0 ? null : Math.sqrt(Math.max(0, 1 - serial) / crosstalk);
}

/**
 * Least squares on what each worker loses, N / S − 1 = σ (N − 1), as Gunther does it (2007, chapter 5). Where workers are
 * faster than ideal, σ is 0.
 * @param points at least one with N > 1
 */
export function amdahl(points: readonly SpeedUp[]): Law {
  const { xx, xy } = sums(points);
  return { serial: Math.max(0, xy / xx), crosstalk: 0 };
}

/**
 * Least squares on N / S − 1 = σ (N − 1) + κ N (N − 1) with σ, κ ≥ 0: in a plane the optimum lies inside, or on one of the two borders.
 * @param points of at least two different N > 1
 */
export function universal(points: readonly SpeedUp[]): Law {
  const { xx, xz, zz, xy, zy } = sums(points);
  const determinant = xx * zz - xz * xz;
  const inside = { serial: (xy * zz - zy * xz) / determinant, crosstalk: (zy * xx - xy * xz) / determinant };
  if (inside.serial >= 0 && inside.crosstalk >= 0) return inside;
  const borders = [
    { serial: Math.max(0, xy / xx), crosstalk: 0 },
    { serial: 0, crosstalk: Math.max(0, zy / zz) },
  ];
  const squares = ({ serial, crosstalk }: Law) =>
    serial * serial * xx +
    2 * serial * crosstalk * xz +
    crosstalk * crosstalk * zz -
    2 * (serial * xy + crosstalk * zy);
  return borders.reduce((best, law) => (squares(law) < squares(best) ? law : best));
}

/** Of the products of x = N − 1, z = N (N − 1) and y = N / S − 1. */
function sums(points: readonly SpeedUp[]) {
  const all = { xx: 0, xz: 0, zz: 0, xy: 0, zy: 0 };
  for (const { workers, speedUp } of points) {
    const [x, z, y] = [workers - 1, workers * (workers - 1), workers / speedUp - 1];
    all.xx += x * x;
    all.xz += x * z;
    all.zz += z * z;
    all.xy += x * y;
    all.zy += z * y;
  }
  return all;
}
