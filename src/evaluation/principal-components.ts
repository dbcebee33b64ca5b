/** The directions of greatest variance, by orthogonal (power) iteration on the covariance matrix. */

/** Iterations at most; each multiplies what is left of lesser components by the ratio of variances. */
const MOST_ITERATIONS = 1000;
/** Ends where no direction turns by more, as 1 − cosine. */
const LEAST_TURN = 1e-12;

export interface Projection {
  /** float64 `[N, 2]`: the first two principal components of each row, centred */
  readonly points: Float64Array;
  /** shares of the variance in [0, 1] that the two have */
  readonly shares: readonly [number, number];
}

/**
 * Signs are such that each direction's entry of greatest magnitude is positive, as scikit-learn has them.
 * @param features `[N, D]`, D ≥ 2
 */
export function principalComponents(features: Float32Array, dimension: number): Projection {
  const count = features.length / dimension;
  const mean = new Float64Array(dimension);
  features.forEach((value, i) => (mean[i % dimension] += value / count));
  const covariance = new Float64Array(dimension * dimension);
  const row = new Float64Array(dimension);
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < dimension; i++) row[i] = features[n * dimension + i] - mean[i];
    for (let i = 0; i < dimension; i++) {
      const factor = row[i] / count;
      for (let j = 0; j < dimension; j++) covariance[i * dimension + j] += factor * row[j];
    }
  }
  const total = mean.reduce((sum, _, i) => sum + covariance[i * dimension + i], 0);
  const first = leading(covariance, dimension, []);
  const second = leading(covariance, dimension, [first.direction]);
  const points = new Float64Array(2 * count);
  [first, second].forEach(({ direction }, component) => {
    for (let n = 0; n < count; n++) {
      let sum = 0;
      for (let i = 0; i < dimension; i++) sum += (features[n * dimension + i] - mean[i]) * direction[i];
      points[2 * n + component] = sum;
    }
  });
  const share = (variance: number) => (total > 0 ? variance / total : 0);
  return { points, shares: [share(first.variance), share(second.variance)] };
}

/** The direction of greatest variance that is orthogonal to those given. */
function leading(covariance: Float64Array, dimension: number, others: readonly Float64Array[]) {
  // Any start will do that is not orthogonal to it; one of uneven entries hardly ever is.
  let direction: Float64Array = unit(
    orthogonal(
      Float64Array.from({ length: dimension }, (_, i) => Math.cos(i + 1)),
      others,
    ),
  );
  let variance = 0;
  for (let iteration = 0; iteration < MOST_ITERATIONS; iteration++) {
    const next = orthogonal(product(covariance, direction), others);
    variance = Math.sqrt(dot(next, next));
    if (variance === 0) break;
    const turned = unit(next);
    const cosine = dot(turned, direction);
    direction = turned;
    if (1 - cosine < LEAST_TURN) break;
  }
  const most = direction.reduce((best, entry) => (Math.abs(entry) > Math.abs(best) ? entry : best), 0);
  return { direction: most < 0 ? direction.map((entry) => -entry) : direction, variance };
}

function product(matrix: Float64Array, vector: Float64Array): Float64Array {
  const size = vector.length;
  return vector.map((_, i) => dot(matrix.subarray(i * size, (i + 1) * size), vector));
}

function orthogonal(vector: Float64Array, others: readonly Float64Array[]): Float64Array {
  return others.reduce((rest, other) => {
    const along = dot(rest, other);
    return rest.map((entry, i) => entry - along * other[i]);
  }, vector);
}

function unit(vector: Float64Array): Float64Array {
  const length = Math.sqrt(dot(vector, vector));
  return length === 0 ? vector : vector.map((entry) => entry / length);
}

function dot(left: Float64Array, right: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += left[i] * right[i];
  return sum;
}
