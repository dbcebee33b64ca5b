/**
 * Random views of texts, as tokens and as the factors of dropout that the encoder multiplies with. As of images, each stage has
 * its own words in the sample's stream, read whether or not the stage is on: switching one off leaves the others' draws as they are.
 */
import type { AugmentationConfig } from "../config/schema.js";
import { Purpose, Stream } from "../protocol/philox.js";
import type { View } from "./draws.js";
import type { Frame } from "./tokenizer.js";

/** Stands where a text is over. */
export const PADDING = -1;

type TextAugmentation = AugmentationConfig["text"];

/**
 * The tokens of a view: a contiguous share of the text's, from which single tokens are left out, though never all.
 * A pure function of its arguments.
 * @param tokens of the whole text, without the frame; at least one
 * @returns at least one, in their order
 */
export function viewOf(
  config: TextAugmentation,
  seed: number,
  { epoch, sample, view }: { readonly epoch: number; readonly sample: number; readonly view: View },
  tokens: Int32Array,
): Int32Array {
  const stream = new Stream(seed, { purpose: Purpose.textView, epoch, sample, view });
  const { start, length } = drawSpan(stream, config.spanCrop, tokens.length);
  // A word for each token of the whole text, whatever is cropped.
  const words = Array.from(tokens, () => stream.uniform());
  const span = Array.from({ length }, (_, index) => start + index);
  const kept = span.filter((index) => words[index] >= config.tokenDeletion);
  const least = span.reduce((best, index) => (words[index] > words[best] ? index : best));
  return Int32Array.from(kept.length === 0 ? [least] : kept, (index) => tokens[index]);
}

/** 3 words. */
function drawSpan(stream: Stream, config: TextAugmentation["spanCrop"], tokens: number) {
  const applied = stream.chance(config.probability);
  const share = stream.uniform(config.minShare, config.maxShare);
  const place = stream.uniform();
  if (!applied) return { start: 0, length: tokens };
  const length = Math.max(1, Math.round(share * tokens));
  return { start: Math.floor(place * (tokens - length + 1)), length };
}

/**
 * Writes a row: the frame around as many of the tokens as fit, the first ones, then padding.
 * @param row int32 `[L]`, longer than the frame
 */
export function writeRow(row: Int32Array, { before, after }: Frame, tokens: Int32Array): void {
  const room = row.length - before.length - after.length;
  const content = tokens.subarray(0, room);
  row.fill(PADDING);
  row.set(before);
  row.set(content, before.length);
  row.set(after, before.length + content.length);
}

/**
 * The factors of dropout (Srivastava et al. 2014) of one view, which with SimCSE (Gao, Yao and Chen 2021) is all that its views
 * differ in: 0 with probability p, else 1/(1 − p). A pure function of its arguments.
 * @param factors float32, is filled
 * @param p in [0, 1)
 */
export function drawDropout(
  p: number,
  seed: number,
  { epoch, sample, view }: { readonly epoch: number; readonly sample: number; readonly view: View },
  factors: Float32Array,
): void {
  const stream = new Stream(seed, { purpose: Purpose.dropout, epoch, sample, view });
  const kept = 1 / (1 - p);
  for (let index = 0; index < factors.length; index++) factors[index] = stream.chance(p) ? 0 : kept;
}
