/** The encoder of a run, by its family. */
import { isOwnFile } from "../config/own-file.js";
import { isTextTransformer } from "../config/text-encoders.js";
import { textOptions, type EncoderConfig } from "./architecture.js";
import { ownEncoder } from "./custom/own-encoder.js";
import type { Encoder } from "./encoder.js";
import { isResnet } from "./resnet-architecture.js";
import { resnet } from "./resnet.js";
import { textEncoder } from "./text-encoder.js";
import { isVisionTransformer, VISION_TRANSFORMERS } from "./vit-architecture.js";
import { visionTransformer } from "./vit.js";

/** @throws UserError `ENCODER_…` where the encoder is a file of the user's own, and does not serve */
export async function encoderOf(config: EncoderConfig): Promise<Encoder> {
  return isOwnFile(config.model.encoder) ? ownEncoder(config) : builtIn(config);
}

function builtIn(config: EncoderConfig): Encoder {
  const { model, data } = config;
  const { imageSize } = data;
  const { encoder } = model;
  if (isResnet(encoder)) return resnet({ ...model, encoder });
  if (isVisionTransformer(encoder)) return visionTransformer(VISION_TRANSFORMERS[encoder], { ...model, imageSize });
  if (isTextTransformer(encoder)) return textEncoder(encoder, textOptions(config));
  throw new Error(`no family of encoders has ${encoder}`);
}
