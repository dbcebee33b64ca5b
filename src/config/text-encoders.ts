/** Encoders that read texts, and what follows from a run's having one. */
import type { RunConfig } from "./schema.js";

/** Sizes of Turc et al. 2019 ("Well-Read Students Learn Better"): BERT-tiny, BERT-mini, BERT-small. */
export const TEXT_TRANSFORMERS = {
  "text-tiny": { width: 128, depth: 2, heads: 2 },
  "text-mini": { width: 256, depth: 4, heads: 4 },
  "text-small": { width: 512, depth: 4, heads: 8 },
} as const;

export type TextTransformerName = keyof typeof TEXT_TRANSFORMERS;

export function isTextTransformer(encoder: string): encoder is TextTransformerName {
  return Object.hasOwn(TEXT_TRANSFORMERS, encoder);
}

/** What a run's samples are. */
export type Modality = "image" | "text";

/** A run's encoder says it; its data have to agree. */
export function modalityOf({ model }: Pick<RunConfig, "model">): Modality {
  return isTextTransformer(model.encoder) ? "text" : "image";
}

/** What a `SPEC` holds, by its scheme; null where its files say it. */
export function modalityOfSpec(spec: string): Modality | null {
  if (holdsPairs(spec)) return null;
  return spec.startsWith("text:") ? "text" : "image";
}

/** Whether a sample of the `SPEC` is a pair, whose key view is made from something else than its query view. */
export function holdsPairs(spec: string): boolean {
  return spec.startsWith("pairs:");
}

/** Places of a Transformer where dropout acts: behind the embedding, and behind attention and MLP of each block. */
export function dropoutPlaces(depth: number): number {
  return 1 + 2 * depth;
}

/** Factors that dropout takes for one view of one text; 0 where there is no dropout. */
export function dropoutFactors({ model, augmentation }: Pick<RunConfig, "model" | "augmentation">): number {
  if (augmentation.text.dropout === 0 || !isTextTransformer(model.encoder)) return 0;
  const { width, depth } = TEXT_TRANSFORMERS[model.encoder];
  return width * dropoutPlaces(depth);
}
