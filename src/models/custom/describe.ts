/** The architecture of an encoder of the user's own, for who has no engine. */
import { askApart } from "../../engine/apart.js";
import type { Architecture, EncoderConfig } from "../architecture.js";

/** @throws UserError `ENCODER_…` */
export async function describeApart({ model, data: { imageSize, maxLength } }: EncoderConfig): Promise<Architecture> {
  const file = { kind: "encoder", path: model.encoder } as const;
  return askApart(new URL("./describe-process.js", import.meta.url), { model, data: { imageSize, maxLength } }, file);
}
