/** An encoder that runs: a backbone with its heads. */
import type { Tensor2D, Tensor4D } from "../engine/index.js";
import type { Architecture } from "./architecture.js";
import type { ForwardContext } from "./forward.js";

/**
 * What an encoder sees, a sample a row: normalised images, `[N, S, S, 3]`, or texts, `[N, …]` (`textRows`). Which of the two is
 * the family's; nothing between data and encoder asks.
 */
export type Views = Tensor4D | Tensor2D;

export interface Encoder extends Architecture {
  /** N views → `[N, featureDim]` backbone features */
  features(context: ForwardContext, views: Views): Tensor2D;
  /** `[N, featureDim]` → `[N, embeddingDim]`, not yet of unit length */
  project(context: ForwardContext, features: Tensor2D): Tensor2D;
  /** `[N, embeddingDim]` → `[N, embeddingDim]`: the prediction head, where there is one */
  predict(context: ForwardContext, projected: Tensor2D): Tensor2D;
}
