/** Features of random views: of texts, and of both sides of pairs. */
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { resolveConfig, type RunConfig } from "../../../src/config/index.js";
import { openRunDataset, type RunDataset } from "../../../src/data/index.js";
import {
  augmentedExtractor,
  encoderExtractor,
  extractFeatures,
  keySide,
  probeAugmentation,
  samplesOnly,
  type RandomViews,
} from "../../../src/evaluation/extract.js";
import { frozenEncoder, type FrozenEncoder } from "../../../src/evaluation/features.js";
import { encoderOf, initialBuffers, initialParameters } from "../../../src/models/index.js";
import { temporaryFolder } from "../data/temporary-folder.js";

const folder = temporaryFolder();
const tokenizer = fileURLToPath(new URL("../../fixtures/tokenizer_wordpiece.json", import.meta.url));
const WORDS = [
  "the cat sat on the mat",
  "a dog ran after the ball",
  "rain fell all day long",
  "we sing in the evening",
];

let config: RunConfig;
let frozen: FrozenEncoder;
let texts: RunDataset;
let pairs: RunDataset;

beforeAll(async () => {
  const lines = WORDS.map((text, label) => JSON.stringify({ text, label })).join("\n");
  const paired = WORDS.map((query, index) => JSON.stringify({ query, key: WORDS[(index + 1) % WORDS.length] }));
  const [path, pairPath] = [folder.write("t.jsonl", lines), folder.write("p.jsonl", paired.join("\n"))];
  const overrides = {
    ...{ "model.encoder": "text-tiny", "data.spec": `text:${path}`, "data.tokenizer": tokenizer },
    ...{ "data.maxLength": 16, "moco.shuffle": "none" },
  };
  config = await resolveConfig({ preset: "text", overrides });
  const encoder = await encoderOf(config);
  const state = { parameters: initialParameters(encoder.layout, 1), buffers: initialBuffers(encoder.layout) };
  frozen = frozenEncoder(encoder, state);
  texts = await openRunDataset(config.data.spec, config);
  pairs = await openRunDataset(`pairs:${pairPath}`, config);
});

const warn = (message: string) => expect.fail(message);

async function featuresOf(dataset: RunDataset, views: Partial<RandomViews> = {}): Promise<Float32Array> {
  const { augmentation } = config;
  const how = { augmentation, what: "features", seed: 3, epoch: 0, view: 0, ...views } as const;
  const extractor = augmentedExtractor(frozen, config, how, dataset, "train");
  return (await extractFeatures(extractor, dataset, "train", Infinity, warn)).features;
}

const atRest = async (dataset: RunDataset) =>
  (await extractFeatures(encoderExtractor(frozen, config), dataset, "train", Infinity, warn)).features;

describe("features of random views of texts", () => {
  it("repeat for the same draw, and differ by epoch, view and dropout", async () => {
    const first = await featuresOf(texts);
    expect(await featuresOf(texts)).toEqual(first);
    const { text, ...rest } = config.augmentation;
    const others = [{ epoch: 1 }, { view: 1 }, { augmentation: { ...rest, text: { ...text, dropout: 0 } } }] as const;
    for (const views of others) expect(await featuresOf(texts, views)).not.toEqual(first);
    expect(probeAugmentation(config.augmentation).text).toEqual({ ...text, dropout: 0 });
  });

  it("are those at rest where nothing is drawn", async () => {
    const { text } = config.augmentation;
    const still = { ...text, tokenDeletion: 0, dropout: 0, spanCrop: { ...text.spanCrop, probability: 0 } };
    expect(await featuresOf(texts, { augmentation: { ...config.augmentation, text: still } })).toEqual(
      await atRest(texts),
    );
  });
});

it("chosen texts come with their labels, and stand alone", async () => {
  const chosen = samplesOnly(texts, "train", Int32Array.of(3, 1));
  expect([...chosen.splits.train.labels]).toEqual([3, 1]);
  const [whole, part] = [await atRest(texts), await atRest(chosen)];
  const { featureDim } = frozen.encoder;
  [3, 1].forEach((sample, row) => {
    part.subarray(row * featureDim, (row + 1) * featureDim).forEach((value, i) => {
      expect(value).toBeCloseTo(whole[sample * featureDim + i], 5);
    });
  });
});

it("the other side of pairs are their keys, and of other data the samples themselves", async () => {
  expect(await atRest(pairs)).toEqual(await atRest(texts));
  const keys = await atRest(keySide(pairs));
  const { featureDim } = frozen.encoder;
  const queries = await atRest(pairs);
  expect(keys.subarray(0, featureDim)).not.toEqual(queries.subarray(0, featureDim));
  keys.subarray(0, 3 * featureDim).forEach((value, i) => expect(value).toBeCloseTo(queries[featureDim + i], 5));
  expect(keySide(texts)).toEqual(texts);
});
