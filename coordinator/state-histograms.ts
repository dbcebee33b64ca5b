/** How the values of a run's state are distributed, for whoever shows it. */
import type { ParameterLayout } from "../src/models/parameters.js";
import { histogramOf, type Histogram } from "../src/telemetry/tensorboard/histogram.js";

export interface StateHistogram {
  /** `parameters/<name>` of θq, or `queue/similarity` */
  readonly tag: string;
  readonly histogram: Histogram;
}

/** Pairs of keys that are compared, at most. */
const MOST_PAIRS = 16_384;

/**
 * @param query θq, float32 `[parameterCount]`
 * @param queue float32 `[K, rowLength]`, of which the first D are a key
 */
export function stateHistograms(
  layout: ParameterLayout,
  query: Float32Array,
  queue: { readonly keys: Float32Array; readonly rowLength: number; readonly dimension: number },
): StateHistogram[] {
  const named = layout.parameters.map(({ name, offset, size }) => ({
    tag: `parameters/${name}`,
    values: query.subarray(offset, offset + size),
  }));
  const all = [...named, { tag: "queue/similarity", values: similarities(queue) }];
  return all.flatMap(({ tag, values }) => {
    const histogram = histogramOf(values);
    return histogram === null ? [] : [{ tag, histogram }];
  });
}

/**
 * Cosine similarity of keys half a queue apart: around 0 where the encoder tells samples apart, 1 where it has collapsed.
 * @returns float32 `[pairs]`; empty for a method without a queue
 */
function similarities({ keys, rowLength, dimension }: Parameters<typeof stateHistograms>[2]): Float32Array {
  const half = rowLength === 0 ? 0 : Math.floor(keys.length / rowLength / 2);
  return Float32Array.from({ length: Math.min(half, MOST_PAIRS) }, (_, row) => {
    const [one, other] = [row * rowLength, (row + half) * rowLength];
    let product = 0;
    for (let i = 0; i < dimension; i++) product += keys[one + i] * keys[other + i];
    return product;
  });
}
