/** A run's tokenizer: a `tokenizer.json`, the file that Hugging Face's tokenizers read and write. */
import { UserError } from "../protocol/errors.js";
import { readOwnFileOf } from "./own-file.js";
import type { RunConfig } from "./schema.js";

export interface TokenizerFile {
  readonly path: string;
  readonly content: Readonly<Record<string, unknown>>;
  /** hex, of the file */
  readonly sha256: string;
  /** one more than the greatest token */
  readonly vocabulary: number;
}

/** Kinds of models that are read. */
const MODELS: readonly unknown[] = ["WordPiece", "BPE", "Unigram"];

/**
 * @throws UserError `TOKENIZER_MISSING`, `TOKENIZER_DIFFERS`, `TOKENIZER_FORMAT`, and `TOKENIZER_VOCABULARY` where the encoder
 *   knows fewer tokens
 */
export async function readTokenizer({ data, model }: Pick<RunConfig, "data" | "model">): Promise<TokenizerFile> {
  const path = data.tokenizer;
  if (path === null) throw new Error("a run without a tokenizer asks for it");
  const { source, sha256 } = await readOwnFileOf(path, data.tokenizerSha256, "tokenizer");
  const content = contentOf(source, path);
  const type = isRecord(content["model"]) ? content["model"]["type"] : undefined;
  if (type !== undefined && !MODELS.includes(type))
    throw noTokenizer(path, `its model is of type ${JSON.stringify(type)}, and ${MODELS.join(", ")} are read`);
  const vocabulary = vocabularyOf(content);
  if (vocabulary === 0) throw noTokenizer(path, "it has no model with a vocabulary");
  if (model.vocabulary !== null && model.vocabulary < vocabulary) {
    throw new UserError(
      "TOKENIZER_VOCABULARY",
      `the tokenizer ${path} has ${String(vocabulary)} tokens, and model.vocabulary = ${String(model.vocabulary)}: ` +
        "raise it, or set it to null, which takes the tokenizer's",
    );
  }
  return { path, content, sha256, vocabulary };
}

/** @param problem what is wrong with the file, as a clause */
export function noTokenizer(path: string, problem: string, cause?: unknown): UserError {
  return new UserError(
    "TOKENIZER_FORMAT",
    `the tokenizer ${path} does not serve: ${problem}; give the tokenizer.json that Hugging Face's tokenizers save`,
    { cause },
  );
}

function contentOf(source: string, path: string): Readonly<Record<string, unknown>> {
  let content: unknown;
  try {
    content = JSON.parse(source);
  } catch (cause) {
    throw noTokenizer(path, "it is no JSON", cause);
  }
  if (!isRecord(content)) throw noTokenizer(path, "it is no JSON object");
  return content;
}

/** WordPiece and BPE number their tokens, Unigram lists them; added tokens say their number. 0: there are none. */
function vocabularyOf(content: Readonly<Record<string, unknown>>): number {
  const { model, added_tokens: added } = content;
  const vocab = isRecord(model) ? model["vocab"] : undefined;
  const numbered = isRecord(vocab) ? Object.values(vocab) : [];
  const listed = Array.isArray(vocab) ? vocab.length : 0;
  const others: unknown[] = Array.isArray(added)
    ? added.map((token: unknown) => (isRecord(token) ? token["id"] : null))
    : [];
  const isToken = (value: unknown): value is number => typeof value === "number" && Number.isInteger(value);
  if (listed === 0 && !numbered.some(isToken)) return 0;
  return [...numbered, ...others].filter(isToken).reduce((most, token) => Math.max(most, token + 1), listed);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
