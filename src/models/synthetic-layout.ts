/** A model of any size whose gradients and weights are moved and not computed with: ResNet-18's tensors, as often as it takes. */
import { LayoutBuilder, type ParameterLayout } from "./parameters.js";
import { resnetArchitecture } from "./resnet-architecture.js";

/**
 * @param parameterCount length of θ; the last tensor is cut to it
 * @returns a layout without batch-norm buffers
 */
export function syntheticLayout(parameterCount: number): ParameterLayout {
  const { parameters } = resnetArchitecture({
    encoder: "resnet18",
    stem: "imagenet",
    head: "mlp",
    embeddingDim: 128,
  }).layout;
  const builder = new LayoutBuilder();
  for (let copy = 0, rest = parameterCount; rest > 0; copy++) {
    for (const { name, shape, role, size } of parameters) {
      if (rest === 0) break;
      const isWhole = size <= rest;
      builder.parameter(`${String(copy)}.${name}`, isWhole ? shape : [rest, 1], isWhole ? role : "dense");
      rest -= Math.min(size, rest);
    }
  }
  return builder.build();
}
