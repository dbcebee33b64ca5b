/** Texts as tokens. */
import { UserError } from "../protocol/errors.js";
import type { SampleSource, Split, TextDataset, TextSource } from "./dataset.js";
import type { Frame, TextTokenizer } from "./tokenizer.js";

/** Samples that are each a text's tokens. */
export interface TokenSource extends SampleSource {
  /**
   * Of sample `index`, without the frame; at least one.
   * @throws UserError `DATA_NO_TOKENS` where the tokenizer makes none of the text
   */
  tokens(index: number): Int32Array;
}

export interface TokenDataset extends Pick<TextDataset, "modality" | "classes" | "manifestHash"> {
  readonly splits: Readonly<Record<Split, TokenSource>>;
  /** as of `TextDataset` */
  readonly keys?: Readonly<Record<Split, TokenSource>>;
  readonly frame: Frame;
  /** L: most tokens of a text, the frame's among them */
  readonly maxLength: number;
}

const TOKEN_BYTES = 4;

/**
 * @param maxBytes of the tokens of each split (of pairs, on each side) that are kept, so that the second epoch need not make them again: those met first
 */
export function tokenized(
  { splits, keys, ...described }: TextDataset,
  tokenizer: TextTokenizer,
  { maxLength, maxBytes }: { readonly maxLength: number; readonly maxBytes: number },
): TokenDataset {
  const both = (sources: TextDataset["splits"]): TokenDataset["splits"] => ({
    train: new TokenizedSource(sources.train, tokenizer, maxBytes),
    test: new TokenizedSource(sources.test, tokenizer, maxBytes),
  });
  return {
    ...described,
    splits: both(splits),
    ...(keys !== undefined && { keys: both(keys) }),
    frame: tokenizer.frame,
    maxLength,
  };
}

class TokenizedSource implements TokenSource {
  readonly length: number;
  readonly labels: Int32Array;
  private readonly kept = new Map<number, Int32Array>();

  constructor(
    private readonly source: TextSource,
    private readonly tokenizer: TextTokenizer,
    private room: number,
  ) {
    this.length = source.length;
    this.labels = source.labels;
  }

  nameOf(index: number): string {
    return this.source.nameOf(index);
  }

  tokens(index: number): Int32Array {
    const known = this.kept.get(index);
    if (known !== undefined) return known;
    const tokens = this.tokenizer.tokens(this.source.text(index));
    if (tokens.length === 0) {
      throw new UserError("DATA_NO_TOKENS", `the tokenizer makes no token of ${this.nameOf(index)}: remove that text`);
    }
    const bytes = TOKEN_BYTES * tokens.length;
    if (bytes <= this.room) {
      this.room -= bytes;
      this.kept.set(index, tokens);
    }
    return tokens;
  }
}
