/** The forward pass of a ResNet, in torchvision's arithmetic. */
import { conv2d, relu, tf, type Tensor1D, type Tensor4D } from "../engine/index.js";
import type { Encoder } from "./encoder.js";
import type { ForwardContext } from "./forward.js";
import { applyHeads } from "./head-forward.js";
import { resnetArchitecture, type ConvolutionNorm, type ResnetOptions } from "./resnet-architecture.js";

export function resnet(options: ResnetOptions): Encoder {
  const { layout, featureDim, stem, stemPool, blocks, ...heads } = resnetArchitecture(options);

  const apply = (context: ForwardContext, layer: ConvolutionNorm, x: Tensor4D): Tensor4D => {
    const filter = context.parameter<Tensor4D>(`${layer.convolution}.weight`);
    const scale = context.parameter<Tensor1D>(`${layer.norm}.weight`);
    const shift = context.parameter<Tensor1D>(`${layer.norm}.bias`);
    const y = conv2d(x, filter, layer.stride, (layer.kernel - 1) / 2);
    return context.normalise(layer.norm, y, scale, shift, layer.relu);
  };

  return {
    layout,
    featureDim,
    features: (context, images: Tensor4D) => {
      let x = tf.tidy(() => {
        const y = apply(context, stem, images);
        // PyTorch pads with −∞; behind ReLU zeros are the same.
        return stemPool ? tf.maxPool(tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "valid") : y; // prettier-ignore
      });
      for (const block of blocks) {
        const input = x;
        x = tf.tidy(() => {
          const residual = block.path.reduce((value, layer) => apply(context, layer, value), input);
          const shortcut = block.downsample === null ? input : apply(context, block.downsample, input);
          return relu(tf.add(residual, shortcut));
        });
        input.dispose();
      }
      return tf.mean(x, [1, 2]);
    },
    ...applyHeads(heads),
  };
}
