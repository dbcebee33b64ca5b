/** An encoder out of a checkpoint. */
import type { CheckpointState } from "../checkpoint/index.js";
import type { ParameterLayout } from "../models/parameters.js";
import type { EncoderState } from "../models/pytorch-layout.js";
import { fromGroups } from "../../coordinator/stored-state.js";

/** query: θq, trained by gradients; key: θk, which follows it by momentum. */
export const ENCODER_SIDES = ["query", "key"] as const;
export type EncoderSide = (typeof ENCODER_SIDES)[number];

/**
 * @param path how to call the checkpoint in a message
 * @throws UserError `CHECKPOINT_ARCHITECTURE` where it does not fit its own config
 */
export function encoderStateOf(
  checkpoint: CheckpointState,
  layout: ParameterLayout,
  side: EncoderSide,
  path: string,
): EncoderState {
  const { state } = fromGroups(layout, checkpoint, checkpoint.meta.config, path);
  return side === "query"
    ? { parameters: state.query, buffers: state.queryBuffers }
    : { parameters: state.key, buffers: state.keyBuffers };
}
