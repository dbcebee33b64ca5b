/** L-BFGS (Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5) with a backtracking line search. */

export interface Evaluated {
  readonly value: number;
  readonly gradient: Float64Array;
}

export interface LbfgsOptions {
  /** line searches at most */
  readonly iterations: number;
  /** ends where no entry of the gradient is greater */
  readonly tolerance: number;
}

export interface Minimum extends Evaluated {
  readonly point: Float64Array;
  readonly iterations: number;
  /** whether the gradient came below the tolerance */
  readonly converged: boolean;
}

/** Pairs of steps and changes of the gradient that stand for the Hessian. */
const HISTORY = 10;
/** Share of the decrease that the slope promises which a step must bring (Armijo). */
const SUFFICIENT = 1e-4;
const MOST_HALVINGS = 30;

/**
 * For smooth convex functions. Ends early where no step along the search direction brings a decrease: what rounding in
 * `objective` allows has been reached.
 */
export function minimise(
  objective: (point: Float64Array) => Evaluated,
  start: Float64Array,
  { iterations, tolerance }: LbfgsOptions,
): Minimum {
  let point: Float64Array = start.slice();
  let { value, gradient }: Evaluated = objective(point);
  const pairs: { readonly step: Float64Array; readonly change: Float64Array; readonly curvature: number }[] = [];
  for (let iteration = 0; iteration < iterations; iteration++) {
    if (greatest(gradient) <= tolerance) return { point, value, gradient, iterations: iteration, converged: true };
    const direction = descent(gradient, pairs);
    const slope = dot(direction, gradient);
    // The first step has no scale to go by: at most one unit.
    let length = pairs.length === 0 ? Math.min(1, 1 / Math.sqrt(dot(gradient, gradient))) : 1;
    let next: (Evaluated & { readonly point: Float64Array }) | null = null;
    for (let halving = 0; halving < MOST_HALVINGS && next === null; halving++, length /= 2) {
      const tried = point.map((coordinate, i) => coordinate + length * direction[i]);
      const evaluated = objective(tried);
      if (evaluated.value <= value + SUFFICIENT * length * slope) next = { ...evaluated, point: tried };
    }
    if (next === null) return { point, value, gradient, iterations: iteration, converged: false };
    const before = { point, gradient };
    const step = next.point.map((coordinate, i) => coordinate - before.point[i]);
    const change = next.gradient.map((slopeNow, i) => slopeNow - before.gradient[i]);
    const curvature = dot(step, change);
    // Only pairs of positive curvature keep the approximation positive definite.
    if (curvature > 1e-10 * dot(change, change)) pairs.push({ step, change, curvature });
    if (pairs.length > HISTORY) pairs.shift();
    ({ point, value, gradient } = next);
  }
  return { point, value, gradient, iterations, converged: greatest(gradient) <= tolerance };
}

/** The two-loop recursion: minus the approximate inverse Hessian times the gradient. */
function descent(
  gradient: Float64Array,
  pairs: readonly { readonly step: Float64Array; readonly change: Float64Array; readonly curvature: number }[],
): Float64Array {
  const direction = gradient.map((slope) => -slope);
  const factors: number[] = [];
  for (const { step, change, curvature } of [...pairs].reverse()) {
    const factor = dot(step, direction) / curvature;
    add(direction, change, -factor);
    factors.push(factor);
  }
  const last = pairs.at(-1);
  if (last !== undefined) {
    const scale = last.curvature / dot(last.change, last.change);
    for (let i = 0; i < direction.length; i++) direction[i] *= scale;
  }
  for (const { step, change, curvature } of pairs) {
    const factor = factors.pop() ?? 0;
    add(direction, step, factor - dot(change, direction) / curvature);
  }
  return direction;
}

function add(target: Float64Array, other: Float64Array, factor: number): void {
  for (let i = 0; i < target.length; i++) target[i] += factor * other[i];
}

function dot(left: Float64Array, right: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += left[i] * right[i];
  return sum;
}

function greatest(vector: Float64Array): number {
  return vector.reduce((most, entry) => Math.max(most, Math.abs(entry)), 0);
}
