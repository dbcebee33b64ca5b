/** What arithmetic costs on this machine, measured with the program's own kernels, and what messages cost. */
import { Aggregator } from "../../../coordinator/aggregator.js";
import { optimizerVectors, type UpdateRule } from "../../config/optimizer.js";
import { parameterBuckets } from "../../models/buckets.js";
import { syntheticLayout } from "../../models/synthetic-layout.js";
import { layerSlices } from "../../models/treatment.js";
import { VectorArena } from "../../optim/index.js";
import { toFrames } from "../../protocol/frames.js";
import { median } from "../median.js";
import type { Costs } from "./scenario.js";

/**
 * Of two processes of one machine, over ZeroMQ; as measured where simulated and real runs were compared (docs/scaling.md). The engine's
 * taking in of weights is a copy, as summing is.
 */
export const MESSAGE_COSTS = { hopMs: 0.12, messageMs: 0.025, ioGbytes: 1.5 } as const;

const PARAMETERS = 4_000_000;
const RANKS = 8;
const ROUNDS = 3;

/** Takes about a second. @param rule of the run's optimizer */
export function measureCosts(rule: UpdateRule): Costs {
  const layout = syntheticLayout(PARAMETERS);
  const layers = layerSlices(layout, { decayNormAndBias: true, exclude: [] });
  const arena = new VectorArena();
  const zeros = () => new Float32Array(PARAMETERS);
  const aggregator = new Aggregator(
    { layout, buckets: parameterBuckets(layout), worldSize: RANKS, gradients: "fp32", rule, layers },
    {
      ...{ version: 0, updates: 0, query: zeros(), key: zeros(), optimizer: optimizerVectors(rule.kind).map(zeros) },
      ...{ queryBuffers: new Float32Array(0), keyBuffers: new Float32Array(0) },
    },
    arena,
  );
  const frames = toFrames(zeros().fill(1e-3));
  const [sums, updates]: [number[], number[]] = [[], []];
  for (let step = 0; step < ROUNDS; step++) {
    const start = performance.now();
    for (let index = 0; index < RANKS; index++)
      aggregator.accept(step, { level: 0, index }, (target) => {
        aggregator.unpack(frames, target);
      });
    const summed = performance.now();
    Array.from(aggregator.apply({ learningRate: 1e-3, keyMomentum: 0.99, clip: 1 }));
    sums.push((summed - start) / RANKS);
    updates.push(performance.now() - summed);
  }
  const sumMs = median(sums) / (PARAMETERS / 1e6);
  return { ...MESSAGE_COSTS, sumMs, updateMs: median(updates) / (PARAMETERS / 1e6), loadMs: sumMs };
}
