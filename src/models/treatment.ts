/** Which parameters weight decay and LARS's layer-wise rates act on. */
import { UserError } from "../protocol/errors.js";
import type { LayerSlice } from "../optim/index.js";
import { isDecayed, isWeight, type ParameterLayout } from "./parameters.js";

export interface Treatment {
  /** whether decay also acts on normalisation and biases */
  readonly decayNormAndBias: boolean;
  /** patterns of names that neither acts on; `*` stands for any characters, dots too */
  readonly exclude: readonly string[];
}

/**
 * One slice a parameter, in the layout's order. Normalisation and biases are never adapted.
 * @param precision what steps round weights to, see `weightsPrecision`
 * @throws UserError `CONFIG_EXCLUDES_NOTHING` for a pattern that no name matches
 */
export function layerSlices(
  layout: ParameterLayout,
  { decayNormAndBias, exclude }: Treatment,
  precision: "fp32" | "bf16" = "fp32",
): readonly LayerSlice[] {
  const patterns = exclude.map(matcher);
  const unmatched = exclude.find((_, index) => !layout.parameters.some(({ name }) => patterns[index].test(name)));
  if (unmatched !== undefined) {
    const names = layout.parameters.map(({ name }) => name);
    const shown = [...names.slice(0, 3), "…", ...names.slice(-2)].join(", ");
    throw new UserError(
      "CONFIG_EXCLUDES_NOTHING",
      `optimizer.exclude: no parameter's name is like ${unmatched} from end to end (they are ${shown}): mend or remove it`,
    );
  }
  return layout.parameters.map((spec) => {
    const { name, offset, size } = spec;
    const isExcluded = patterns.some((pattern) => pattern.test(name));
    const acts = (normAndBias: boolean) => !isExcluded && isDecayed(spec, normAndBias);
    const bfloat16 = precision === "bf16" && isWeight(spec);
    return { offset, size, decay: acts(decayNormAndBias), adapt: acts(false), bfloat16 };
  });
}

function matcher(pattern: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}
