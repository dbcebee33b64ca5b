/** SGD with momentum and weight decay as `torch.optim.SGD`, and MoCo's momentum update, over flat fp32 vectors. */

export interface SgdStep {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
}

/** A stretch of the flat vector and whether weight decay acts on it. */
export interface DecaySlice {
  readonly offset: number;
  readonly size: number;
  readonly decay: boolean;
}

/**
 * `g ← g·scale + weightDecay·θ`, `v ← momentum·v + g`, `θ' ← θ − learningRate·v`; each stored value is rounded to fp32.
 * @param gradient float32 `[P]`, sum over the ranks
 * @param scale what turns the sum into a mean: 1 / W
 * @param velocity float32 `[P]`, changed in place
 * @param next float32 `[P]`, receives θ'
 */
export function sgdStep(
  parameters: Float32Array,
  gradient: Float32Array,
  scale: number,
  velocity: Float32Array,
  next: Float32Array,
  slices: readonly DecaySlice[],
  { learningRate, momentum, weightDecay }: SgdStep,
): void {
  for (const slice of slices) {
    const decay = slice.decay ? weightDecay : 0;
    const end = slice.offset + slice.size;
    for (let i = slice.offset; i < end; i++) {
      const value = parameters[i];
      const v = Math.fround(momentum * velocity[i] + (gradient[i] * scale + decay * value));
      velocity[i] = v;
      next[i] = value - learningRate * v;
    }
  }
}

/**
 * `target ← m·target + (1 − m)·source`, written to `next` (He et al. 2020, equation 2; also running statistics of batch
 * norm with m = 1 − momentum).
 */
export function momentumUpdate(
  target: Float32Array,
  source: Float32Array,
  m: number,
  next: Float32Array,
  sourceScale = 1,
): void {
  const share = (1 - m) * sourceScale;
  for (let i = 0; i < next.length; i++) next[i] = m * target[i] + share * source[i];
}
