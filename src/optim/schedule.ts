/** Numbers that change over a run. Steps are counted from 0. */

export interface LearningRateSchedule {
  /** what follows the warm-up */
  readonly kind: "cosine" | "step" | "constant";
  readonly peak: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/** MoCo v1 trains for 200 epochs, and divides its rate by 10 at the 120th and the 160th (He et al. 2020, section 4). */
const MILESTONES = [0.6, 0.8];

/**
 * Learning rate of the update numbered `step`: linear warm-up, then half a cosine to zero (Loshchilov and Hutter 2017), two
 * falls to a tenth, or nothing more.
 */
export function learningRateAt(step: number, { kind, peak, warmupSteps, totalSteps }: LearningRateSchedule): number {
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  switch (kind) {
    case "cosine":
      return peak * halfCosine((step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
    case "step":
      return peak * 0.1 ** MILESTONES.filter((share) => step >= share * totalSteps).length;
    case "constant":
      return peak;
  }
}

export interface KeyMomentumSchedule {
  readonly kind: "constant" | "cosine";
  /** m at the beginning */
  readonly start: number;
  readonly totalSteps: number;
}

/** m of the update numbered `step`: constant, or rising to 1 as in MoCo v3 (`adjust_moco_momentum`). */
export function keyMomentumAt(step: number, { kind, start, totalSteps }: KeyMomentumSchedule): number {
  return kind === "constant" ? start : 1 - (1 - start) * halfCosine(step / totalSteps);
}

/** From 1 to 0 while `progress` goes from 0 to 1. */
function halfCosine(progress: number): number {
  return 0.5 * (1 + Math.cos(Math.PI * Math.min(1, progress)));
}
