/** Five hundred steps on one worker's engine, compiled: neither tensors nor resident memory grow. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { resolveConfig } from "../../src/config/index.js";
import { Loader, openRunDataset, viewReader } from "../../src/data/index.js";
import { tf } from "../../src/engine/index.js";
import { initialBuffers, initialParameters } from "../../src/models/index.js";
import { KeyQueue } from "../../src/objectives/index.js";
import { RankComputer } from "../../worker/rank-computer.js";

const STEPS = 500;
/** By then every buffer has been asked for once. */
const SETTLED = 40;
/** Of noise in what malloc keeps. A leak of one activation a step would be 160 times 65 kB. */
const MOST_GROWTH_BYTES = 16e6;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Resident bytes, without the JavaScript heap, which V8 grows and shrinks as it likes. */
function residentBytes(): number {
  collectGarbage();
  const { rss, heapTotal } = process.memoryUsage();
  return rss - heapTotal;
}

it("holds memory over 500 steps", { timeout: 120_000 }, async () => {
  const config = await resolveConfig({
    overrides: {
      "data.spec": "synthetic:size=16,train=64,test=0",
      "data.imageSize": 8,
      "data.decodeSize": 8,
      "moco.queueSize": 64,
      "parallel.worldSize": 2,
      "parallel.batchSize": 8,
      "model.bnSplits": 2,
    },
  });
  const dataset = await openRunDataset(config.data.spec, config);
  const loader = new Loader(
    viewReader(dataset, config, () => undefined),
    config,
  );
  const computer = await RankComputer.prepare(config, (warning) => expect.fail(warning));
  const { layout } = computer.encoder;
  const parameters = initialParameters(layout, 0);
  const weights = { query: parameters, key: parameters, buffers: initialBuffers(layout) };
  computer.setQueue(0, KeyQueue.random(64, config.model.embeddingDim, 0).keys);

  const block = new Float32Array(16 * config.model.embeddingDim);
  let settled: { tensors: number; bytes: number } | null = null;
  for (let step = 0; step < STEPS; step++) {
    computer.setWeights({ version: step, shards: [weights] });
    for (const rank of [0, 1]) {
      const outcome = computer.run({
        ...{ step, rank, batch: await loader.take(step, rank) },
        link: 1,
        flush: rank === 1,
        memories: [null],
        run: null,
      });
      if (typeof outcome === "string") throw new Error(outcome);
      const { keys, loss, nodes } = outcome;
      expect(loss).toBeGreaterThan(0);
      expect(nodes).toHaveLength(rank);
      block.set(keys, rank * keys.length);
    }
    computer.appendKeys(block);
    if (step === SETTLED) settled = { tensors: tf.memory().numTensors, bytes: residentBytes() };
  }
  expect(tf.memory().numTensors).toBe(settled?.tensors);
  expect(residentBytes() - (settled?.bytes ?? 0)).toBeLessThan(MOST_GROWTH_BYTES);
});
