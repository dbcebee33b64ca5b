/** From texts to tokens, by the run's `tokenizer.json`. */
import { Tokenizer } from "@huggingface/tokenizers";
import type { RunConfig } from "../config/schema.js";
import { noTokenizer, readTokenizer } from "../config/tokenizer-file.js";
import { UserError } from "../protocol/errors.js";

/** Special tokens that stand before and after the tokens of every text, such as `[CLS]` and `[SEP]`; often empty. */
export interface Frame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export interface TextTokenizer {
  readonly frame: Frame;
  /** Tokens of a text, however many, without the frame; each below the vocabulary's size. */
  tokens(text: string): Int32Array;
}

/** Tells where the frame is: one letter, which any tokenizer makes some token of. */
const PROBE = "a";

/**
 * @throws UserError as `readTokenizer`; `TOKENIZER_FORMAT`; `TOKENIZER_NO_CLASS` where a text's features are to be its first token's,
 *   and the tokenizer puts none in front; `CONFIG_CONTRADICTION` where the frame leaves no room for a text
 */
export async function openTokenizer(config: Pick<RunConfig, "data" | "model">): Promise<TextTokenizer> {
  const { path, content } = await readTokenizer(config);
  const tokenizer = attempt(path, () => new Tokenizer(content, {}));
  const encode = (text: string, framed: boolean) =>
    attempt(path, () => tokenizer.encode(text, { add_special_tokens: framed }).ids);
  const frame = frameOf(encode(PROBE, true), encode(PROBE, false));
  if (frame === null) throw noTokenizer(path, "it makes no token of a letter");
  if (config.model.pooling === "first" && frame.before.length === 0) {
    throw new UserError(
      "TOKENIZER_NO_CLASS",
      `the tokenizer ${path} puts no class token in front of a text, and model.pooling = first: set it to mean`,
    );
  }
  const { maxLength } = config.data;
  const framing = frame.before.length + frame.after.length;
  if (framing >= maxLength) {
    throw new UserError(
      "CONFIG_CONTRADICTION",
      `data.maxLength = ${maxLength} has no room for a text beside the tokenizer's ${framing} special tokens: raise it`,
    );
  }
  return { frame, tokens: (text) => Int32Array.from(encode(text, false)) };
}

function frameOf(whole: readonly number[], bare: readonly number[]): Frame | null {
  if (bare.length === 0) return null;
  for (let start = 0; start + bare.length <= whole.length; start++) {
    if (bare.every((token, index) => whole[start + index] === token))
      return { before: whole.slice(0, start), after: whole.slice(start + bare.length) };
  }
  return null;
}

/** Whatever the library throws, as one line that names the file. */
function attempt<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    const [reason = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw noTokenizer(path, reason, cause);
  }
}
