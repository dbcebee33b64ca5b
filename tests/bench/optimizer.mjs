/**
 * How long an aggregator takes to update a ResNet-50 (28 million parameters with its heads, 112 MB a vector; 5 GB in all) by each
 * optimizer, key encoder included, beside the time that a plain copy takes for the bytes which the update must read and write.
 *
 * usage: node tests/bench/optimizer.mjs [--rounds 11] [--encoder resnet50]        (after npm run build)
 */
import { parseArgs } from "node:util";
import { Aggregator } from "../../dist/coordinator/aggregator.js";
import { optimizerVectors } from "../../dist/src/config/optimizer.js";
import { resnetArchitecture } from "../../dist/src/models/architecture.js";
import { gradientLength } from "../../dist/src/models/exchange.js";
import { initialBuffers, initialParameters } from "../../dist/src/models/parameters.js";
import { parameterBuckets } from "../../dist/src/models/buckets.js";
import { layerSlices } from "../../dist/src/models/treatment.js";
import { clipFactor } from "../../dist/src/optim/index.js";
import { median } from "./median.mjs";

const { values: given } = parseArgs({
  options: { rounds: { type: "string", default: "11" }, encoder: { type: "string", default: "resnet50" } },
});
const rounds = Number(given.rounds);
const { layout } = resnetArchitecture({ encoder: given.encoder, stem: "imagenet", head: "mlp", embeddingDim: 128 });
const { parameterCount } = layout;
const theta = initialParameters(layout, 1);
const buffers = initialBuffers(layout);
const gradient = Float32Array.from({ length: gradientLength(layout) }, (_, i) => Math.sin(i * 0.37) / 1000);

const sgd = { kind: "sgd", momentum: 0.9, weightDecay: 1e-4 };
const lars = { kind: "lars", momentum: 0.9, weightDecay: 1e-6, trustCoefficient: 0.001 };
const adamw = { kind: "adamw", beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 };

/** The key encoder alone: reads θk and θq', writes θk'. */
const KEY_VECTORS = 3;
const subjects = [
  { name: "sgd", rule: sgd, clipNorm: null, vectors: 5 },
  { name: "sgd, clipped", rule: sgd, clipNorm: 1, vectors: 6 },
  { name: "lars", rule: lars, clipNorm: null, vectors: 5 },
  { name: "adamw", rule: adamw, clipNorm: null, vectors: 7 },
  { name: "adamw, clipped", rule: adamw, clipNorm: 1, vectors: 8 },
].map((subject) => ({ ...subject, aggregator: started(subject), times: [] }));

/** @param {{ rule: object }} subject */
function started({ rule }) {
  const layers = layerSlices(layout, { decayNormAndBias: false, exclude: [] });
  return new Aggregator(
    { layout, buckets: parameterBuckets(layout), worldSize: 1, gradients: "fp32", rule, layers },
    {
      ...{ version: 0, updates: 0, query: theta, key: theta, queryBuffers: buffers, keyBuffers: buffers },
      optimizer: optimizerVectors(rule.kind).map(() => new Float32Array(parameterCount)),
    },
  );
}

/** Milliseconds to copy one vector, which is read and written once. */
const copies = [];
const target = new Float32Array(parameterCount);
for (let round = 0; round < rounds + 2; round++) {
  const before = performance.now();
  target.set(theta);
  const copied = performance.now() - before;
  if (round >= 2) copies.push(copied);
  // In turn, so that whatever else the machine does meanwhile falls on all alike.
  for (const { aggregator, clipNorm, times } of subjects) {
    aggregator.accept(round, { level: 0, index: 0 }, (vector) => vector.set(gradient));
    const start = performance.now();
    const clip = clipNorm === null ? 1 : clipFactor(aggregator.squares(), clipNorm);
    for (const bucket of aggregator.apply({ learningRate: 1e-3, keyMomentum: 0.99, clip })) void bucket;
    // The first two rounds ask the system for memory.
    if (round >= 2) times.push(performance.now() - start);
  }
}

const copyMs = median(copies);
const megabytes = (4 * parameterCount) / 1e6;
console.log(
  `${given.encoder}: ${parameterCount} parameters, ${megabytes.toFixed(0)} MB a vector; a copy of one takes ${copyMs.toFixed(1)} ms`,
);
for (const { name, vectors, times } of subjects) {
  const bound = ((vectors + KEY_VECTORS) / 2) * copyMs;
  const ms = median(times);
  console.log(
    `${name.padEnd(16)}${ms.toFixed(0).padStart(5)} ms an update, copying as many bytes ${bound.toFixed(0).padStart(5)} ms (${(ms / bound).toFixed(2)})`,
  );
}
