/** One optimizer update of flat float32 vectors, layer by layer. */
import type { UpdateRule } from "../config/optimizer.js";
import type { VectorArena } from "./arena.js";

/** A trust ratio beyond it, of a layer whose gradient has all but vanished, would become infinite. */
const LARGEST_FLOAT32 = (2 - 2 ** -23) * 2 ** 127;

/** A parameter's stretch of the flat vector, and how it is treated. */
export interface LayerSlice {
  readonly offset: number;
  readonly size: number;
  /** whether weight decay acts on it */
  readonly decay: boolean;
  /** whether LARS scales its gradient by the trust ratio */
  readonly adapt: boolean;
  /** whether it is only ever computed with once it has been rounded to bfloat16 */
  readonly bfloat16: boolean;
}

/** Those of a stretch that is cut at their borders, counted from its first value. */
export function layersIn<Layer extends Pick<LayerSlice, "offset" | "size">>(
  layers: readonly Layer[],
  { offset, size }: { readonly offset: number; readonly size: number },
): readonly Layer[] {
  return layers
    .filter((layer) => layer.offset >= offset && layer.offset < offset + size)
    .map((layer) => ({ ...layer, offset: layer.offset - offset }));
}

/** Vectors that an update reads and writes, float32 `[P]` each. */
export interface UpdateVectors {
  readonly parameters: Float32Array;
  /** sum over the ranks; may be longer */
  readonly gradient: Float32Array;
  /** the optimizer's, in `optimizerVectors`' order */
  readonly optimizer: readonly Float32Array[];
  readonly nextParameters: Float32Array;
  readonly nextOptimizer: readonly Float32Array[];
}

export interface UpdateStep {
  /** what turns the gradient's sum into what is applied: 1 / W, times the clipping's factor */
  readonly scale: number;
  readonly learningRate: number;
  /** updates made, this one included: 1, 2, … */
  readonly number: number;
}

/**
 * @param vectors the next ones may be those of now: an update in place
 * @param layers cover the parameters, ascending
 */
export function update(
  arena: VectorArena,
  rule: UpdateRule,
  vectors: UpdateVectors,
  layers: readonly LayerSlice[],
  step: UpdateStep,
): void {
  if (rule.kind === "adamw") adamw(arena, rule, vectors, layers, step);
  else sgd(arena, rule, vectors, layers, step);
}

/**
 * SGD with momentum and weight decay as `torch.optim.SGD`: `g ← scale·gradient + decay·θ`, `v' ← momentum·v + g`,
 * `θ' ← θ − rate·v'`. LARS multiplies the g of a layer that it adapts by `trustCoefficient·‖θ‖ / ‖g‖` where both norms are
 * above 0, as MoCo v3's `optimizer.py`.
 */
function sgd(
  arena: VectorArena,
  rule: Extract<UpdateRule, { kind: "sgd" | "lars" }>,
  { parameters, gradient, optimizer: [velocity], nextParameters, nextOptimizer: [nextVelocity] }: UpdateVectors,
  layers: readonly LayerSlice[],
  { scale, learningRate }: UpdateStep,
): void {
  const { kernels } = arena;
  const [theta, g, v, nextTheta, nextV] = [parameters, gradient, velocity, nextParameters, nextVelocity].map((vector) =>
    arena.offsetOf(vector),
  ) as [number, number, number, number, number];
  for (const { offset, size, decay, adapt } of layers) {
    const at = 4 * offset;
    const weightDecay = decay ? rule.weightDecay : 0;
    let trust = 1;
    if (rule.kind === "lars" && adapt) {
      const parameterNorm = Math.sqrt(kernels.squares(theta + at, theta + at, size, 1, 0));
      const gradientNorm = Math.sqrt(kernels.squares(theta + at, g + at, size, scale, weightDecay));
      if (parameterNorm > 0 && gradientNorm > 0) {
        trust = Math.min((rule.trustCoefficient * parameterNorm) / gradientNorm, LARGEST_FLOAT32);
      }
    }
    const places = [theta + at, g + at, v + at, nextTheta + at, nextV + at] as const;
    kernels.sgd(...places, size, scale, weightDecay, trust, rule.momentum, learningRate);
  }
}

/**
 * `torch.optim.AdamW`: `m' ← m + (1 − β₁)·(g − m)`, `s' ← β₂·s + (1 − β₂)·g²`,
 * `θ' ← (1 − rate·decay)·θ − rate / (1 − β₁ᵗ) · m' / (√s' / √(1 − β₂ᵗ) + ε)` at update t.
 */
function adamw(
  arena: VectorArena,
  { beta1, beta2, epsilon, weightDecay }: Extract<UpdateRule, { kind: "adamw" }>,
  { parameters, gradient, optimizer, nextParameters, nextOptimizer }: UpdateVectors,
  layers: readonly LayerSlice[],
  { scale, learningRate, number }: UpdateStep,
): void {
  const starts = [parameters, gradient, ...optimizer, nextParameters, ...nextOptimizer].map((vector) =>
    arena.offsetOf(vector),
  );
  const rate = learningRate / (1 - power(beta1, number));
  const rootScale = 1 / Math.sqrt(1 - power(beta2, number));
  for (const { offset, size, decay } of layers) {
    const at = starts.map((start) => start + 4 * offset) as [number, number, number, number, number, number, number];
    const kept = 1 - (decay ? learningRate * weightDecay : 0);
    arena.kernels.adamw(...at, size, scale, kept, 1 - beta1, beta2, 1 - beta2, rootScale, epsilon, rate);
  }
}

/** base^exponent by squaring: only multiplications, so the bits are the same in every JavaScript engine, unlike `**`'s. */
function power(base: number, exponent: number): number {
  let result = 1;
  for (let square = base, rest = exponent; rest > 0; square *= square, rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
  }
  return result;
}

/** torch.nn.utils.clip_grad_norm_ adds it to the norm */
const CLIP_EPSILON = 1e-6;

/** Σ (scale·gradient)² of each layer, summed in float64. */
export function layerSquares(
  arena: VectorArena,
  gradient: Float32Array,
  layers: readonly LayerSlice[],
  scale: number,
): readonly number[] {
  const start = arena.offsetOf(gradient);
  return layers.map(({ offset, size }) => {
    const at = start + 4 * offset;
    return arena.kernels.squares(at, at, size, scale, 0);
  });
}

/**
 * The factor that `torch.nn.utils.clip_grad_norm_` multiplies the mean gradient by: `min(1, clipNorm / (‖gradient‖ + 1e-6))`.
 * @param squares of all layers, in order: they are summed so, and how parameters are cut into shards does not show
 */
export function clipFactor(squares: readonly number[], clipNorm: number): number {
  const sum = squares.reduce((total, square) => total + square, 0);
  return Math.min(1, clipNorm / (Math.sqrt(sum) + CLIP_EPSILON));
}
