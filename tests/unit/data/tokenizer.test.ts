/** Tokens against Hugging Face's own library (tests/fixtures/tokenizer_parity.py), and tokenizers that do not serve. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { resolveConfig, type RunConfig } from "../../../src/config/index.js";
import { openRunDataset, readSamples, viewReader } from "../../../src/data/index.js";
import { Loader } from "../../../src/data/loader.js";
import { drawDropout, viewOf, writeRow } from "../../../src/data/text-views.js";
import { openTokenizer } from "../../../src/data/tokenizer.js";
import { temporaryFolder } from "./temporary-folder.js";

interface Parity {
  readonly texts: readonly string[];
  readonly cases: readonly {
    readonly file: string;
    readonly vocabulary: number;
    /** of each text, the frame's among them */
    readonly ids: readonly (readonly number[])[];
  }[];
}

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
const parity = JSON.parse(readFileSync(fixture("tokenizer_parity.json"), "utf8")) as Parity;
const WORDPIECE = fixture("tokenizer_wordpiece.json");
const folder = temporaryFolder();

const lines = parity.texts.map((text, index) => JSON.stringify({ text, label: index % 2 }));
const corpus = folder.write("corpus.jsonl", lines.join("\n"));

function configOf(tokenizer: string, overrides: Record<string, unknown> = {}): Promise<RunConfig> {
  const small = { "parallel.worldSize": 1, "parallel.batchSize": 4, "data.maxLength": 12 };
  const data = { "data.spec": `text:${corpus}`, "data.tokenizer": tokenizer };
  return resolveConfig({ preset: "text", overrides: { ...small, ...data, ...overrides } });
}

describe.each(parity.cases)("$file", ({ file, vocabulary, ids }) => {
  it("makes the tokens that Hugging Face's own library makes", async () => {
    const tokenizer = await openTokenizer(await configOf(fixture(file)));
    const { frame } = tokenizer;
    expect(parity.texts.map((text) => [...frame.before, ...tokenizer.tokens(text), ...frame.after])).toEqual(ids);
  });

  it("becomes part of the run by its digest, with the number of its tokens", async () => {
    const { data, model } = await configOf(fixture(file));
    expect(data.tokenizerSha256).toBe(
      createHash("sha256")
        .update(readFileSync(fixture(file)))
        .digest("hex"),
    );
    expect(model.vocabulary).toBe(vocabulary);
  });
});

describe("a tokenizer that does not serve is one line:", () => {
  const valid = JSON.parse(readFileSync(WORDPIECE, "utf8")) as Record<string, unknown>;
  const without = (change: Record<string, unknown>) => JSON.stringify({ ...valid, ...change });
  it.each([
    [
      "./none.json",
      {},
      "TOKENIZER_MISSING",
      "cannot read the tokenizer ./none.json (ENOENT): name the file with --tokenizer",
    ],
    [folder.write("text.json", "[CLS]"), {}, "TOKENIZER_FORMAT", "it is no JSON"],
    [folder.write("list.json", "[]"), {}, "TOKENIZER_FORMAT", "it is no JSON object"],
    [folder.write("config.json", '{"do_lower_case": true}'), {}, "TOKENIZER_FORMAT", "no model with a vocabulary"],
    [folder.write("half.json", '{"model": {"vocab": {"a": 0}}}'), {}, "TOKENIZER_FORMAT", "does not serve"],
    [
      folder.write("kind.json", without({ model: { type: "New", vocab: { a: 0 } } })),
      {},
      "TOKENIZER_FORMAT",
      "does not serve",
    ],
    [WORDPIECE, { "model.vocabulary": 100 }, "TOKENIZER_VOCABULARY", "model.vocabulary = 100: raise it"],
    [WORDPIECE, { "data.tokenizerSha256": "0".repeat(64) }, "TOKENIZER_DIFFERS", "is not the run's: its sha256 is"],
    [
      folder.write("bare.json", without({ post_processor: null })),
      { "model.pooling": "first" },
      "TOKENIZER_NO_CLASS",
      "puts no class token in front of a text, and model.pooling = first: set it to mean",
    ],
    [WORDPIECE, { "data.maxLength": 2 }, "CONFIG_CONTRADICTION", "has no room for a text beside the tokenizer's 2"],
  ])("%s with %j: %s", async (tokenizer, overrides, code, message) => {
    const opening = configOf(tokenizer, overrides).then(openTokenizer);
    const error: unknown = await opening.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "UserError", code });
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  });
});

describe("a run on texts", () => {
  it("is contradicted by data of the other kind, and by no tokenizer", async () => {
    const texts = "CONFIG_CONTRADICTION: data.spec = text:x holds texts, and model.encoder = resnet18 reads images";
    const images =
      "CONFIG_CONTRADICTION: data.spec = synthetic holds images, and model.encoder = text-tiny reads texts";
    const none = "CONFIG_CONTRADICTION: model.encoder = text-tiny reads tokens, and data.tokenizer is null";
    for (const [overrides, expected] of [
      [{ "data.spec": "text:x", "model.encoder": "resnet18" }, texts],
      [{ "data.spec": "synthetic", "model.encoder": "text-tiny" }, images],
      [{ "data.spec": "text:x", "model.encoder": "text-tiny" }, none],
    ] as const) {
      const error = await resolveConfig({ overrides }).catch((thrown: unknown) => thrown as Error & { code: string });
      expect(error).toBeInstanceOf(Error);
      const { code, message } = error as Error & { code: string };
      expect(`${code}: ${message}`).toContain(expected);
    }
  });

  it("does not take images from elsewhere", async () => {
    const opening = openRunDataset("synthetic", await configOf(WORDPIECE));
    await expect(opening).rejects.toMatchObject({ code: "DATA_MODALITY" });
  });

  it("leaves out nothing: a text that gives no token is refused by its line", async () => {
    const path = folder.write("control.txt", "one\n\u0007\n");
    const config = await configOf(WORDPIECE, { "data.spec": `text:${path}` });
    const reading = openRunDataset(config.data.spec, config).then((dataset) =>
      readSamples(dataset, "train", [0, 1], () => undefined),
    );
    await expect(reading).rejects.toMatchObject({ code: "DATA_NO_TOKENS", message: /control\.txt:2/ });
  });

  it("gives samples at rest as rows of tokens, cut to the longest", async () => {
    const config = await configOf(WORDPIECE);
    const { values, samples } = await readSamples(
      await openRunDataset(config.data.spec, config),
      "train",
      [1, 6],
      () => undefined,
    );
    const row = (ids: readonly number[]) => [...ids, ...new Array<number>(12).fill(-1)].slice(0, 12);
    const [first, second] = [1, 6].map((index) => parity.cases[0].ids[index]);
    expect(first.length).toBeLessThan(13);
    expect(values).toEqual({ modality: "text", ids: Int32Array.from([...row(first), ...row(second)]) });
    expect([...samples]).toEqual([1, 6]);
  });

  it("gives a rank both views of its samples, in shared memory", async () => {
    const config = await configOf(WORDPIECE, { "augmentation.text.dropout": 0.25 });
    const reader = viewReader(await openRunDataset(config.data.spec, config), config, () => undefined);
    const batch = await new Loader(reader, config).take(3, 0);
    if (batch.modality !== "text") expect.fail("it is of images");
    const tokenizer = await openTokenizer(config);
    const { frame } = tokenizer;
    const factors = 5 * 128;
    for (const [{ ids, dropout }, view] of [
      [batch.query, 0],
      [batch.key, 1],
    ] as const) {
      batch.samples.forEach((sample, place) => {
        const address = { epoch: 1, sample, view };
        const row = new Int32Array(12);
        writeRow(
          row,
          frame,
          viewOf(config.augmentation.text, config.seed, address, tokenizer.tokens(parity.texts[sample])),
        );
        expect(ids.subarray(12 * place, 12 * (place + 1))).toEqual(row);
        const expected = new Float32Array(factors);
        drawDropout(0.25, config.seed, address, expected);
        expect(dropout.subarray(factors * place, factors * (place + 1))).toEqual(expected);
      });
      expect(ids.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(dropout.buffer).toBeInstanceOf(SharedArrayBuffer);
    }
    expect([...batch.labels]).toEqual([...batch.samples].map((sample) => sample % 2));
  });
});
