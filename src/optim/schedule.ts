/** Learning rate over a run: linear warm-up, then half a cosine to zero (Loshchilov and Hutter 2017). */

export interface LearningRateSchedule {
  readonly peak: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/** Learning rate of the update numbered `step`, counted from 0. */
export function learningRateAt(step: number, { peak, warmupSteps, totalSteps }: LearningRateSchedule): number {
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  return peak * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, progress)));
}
