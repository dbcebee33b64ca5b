/** What a run's encoder is made of, whatever its family. No engine is loaded to say it. */
import { isOwnFile } from "../config/own-file.js";
import type { RunConfig } from "../config/schema.js";
import { isTextTransformer, TEXT_TRANSFORMERS } from "../config/text-encoders.js";
import { UserError } from "../protocol/errors.js";
import { describeApart } from "./custom/describe.js";
import type { ParameterLayout } from "./parameters.js";
import { isResnet, resnetArchitecture } from "./resnet-architecture.js";
import { textTransformerArchitecture, type TextTransformerOptions } from "./text-architecture.js";
import { syntheticLayout } from "./synthetic-layout.js";
import { isVisionTransformer, visionTransformerArchitecture, VISION_TRANSFORMERS } from "./vit-architecture.js";

/** The part of a run's config that its encoder follows from. */
export interface EncoderConfig {
  readonly model: RunConfig["model"];
  readonly data: Pick<RunConfig["data"], "imageSize" | "maxLength">;
}

export interface Architecture {
  readonly layout: ParameterLayout;
  /** length of a feature vector */
  readonly featureDim: number;
}

/** @throws UserError `ENCODER_…` where the encoder is a file of the user's own, and does not serve; `ENCODER_NO_BATCH_NORM` */
export async function architectureOf(config: EncoderConfig & Pick<RunConfig, "engine">): Promise<Architecture> {
  const { mode, synthetic } = config.engine;
  if (mode === "synthetic" && synthetic.parameters !== null)
    return { layout: syntheticLayout(synthetic.parameters), featureDim: 0 };
  const { encoder, syncBatchNorm } = config.model;
  const architecture = isOwnFile(encoder) ? await describeApart(config) : builtInArchitecture(config);
  if (syncBatchNorm && architecture.layout.bufferCount === 0) {
    throw new UserError(
      "ENCODER_NO_BATCH_NORM",
      `model.syncBatchNorm = true does nothing for encoder ${encoder}, which has no batch norm: set it to false`,
    );
  }
  return architecture;
}

function builtInArchitecture(config: EncoderConfig): Architecture {
  const { model, data } = config;
  const { imageSize } = data;
  const { encoder } = model;
  if (isResnet(encoder)) return resnetArchitecture({ ...model, encoder });
  if (isVisionTransformer(encoder))
    return visionTransformerArchitecture(VISION_TRANSFORMERS[encoder], { ...model, imageSize });
  if (isTextTransformer(encoder)) return textTransformerArchitecture(TEXT_TRANSFORMERS[encoder], textOptions(config));
  throw new Error(`no family of encoders has ${encoder}`);
}

/** @throws Error where the config has not been resolved, which fills the vocabulary in */
export function textOptions({ model, data: { maxLength } }: EncoderConfig): TextTransformerOptions {
  const { vocabulary } = model;
  if (vocabulary === null) throw new Error("the config says no vocabulary");
  return { ...model, vocabulary, maxLength };
}
